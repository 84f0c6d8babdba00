"""Run an exported folder through timm alone: a script for an interpreter that never imports this package.

Shape legend: B images, C channels, H W pixels, N tokens.

Usage: python plain_timm.py FOLDER INPUTS OUTPUTS, where INPUTS is a safetensors file of images (B, 3, H, W) and OUTPUTS
gets under each name what `forward_features` makes of them.
"""

import sys
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file


def main(folder: str, inputs: str, outputs: str) -> None:
    """Load the folder as any user of timm does and write what it computes."""
    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.inference_mode():
        features = {name: model.forward_features(images) for name, images in load_file(inputs).items()}
    save_file({name: value.clone().contiguous() for name, value in features.items()}, outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
