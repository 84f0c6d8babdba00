"""Run an exported folder through timm alone: a script for an interpreter that never imports this package.

Shape legend: B images, C channels, H W pixels, N tokens.

Usage: python plain_timm.py FOLDER [WEIGHTS NUM_CLASSES] INPUTS OUTPUTS, where INPUTS is a safetensors file of images
(B, 3, H, W) and OUTPUTS gets under each name what `forward_features` makes of them. With WEIGHTS, a file in the layout
of the original release, timm translates that file for the architecture of the folder, with so many classes.
"""

import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file


def main(folder: str, *words: str) -> None:
    """Load the folder or file as any user of timm does and write what it computes."""
    *release, inputs, outputs = words
    model: Any = (
        load_release(folder, *release) if release else timm.create_model(f"local-dir:{folder}", pretrained=True)
    )
    with torch.inference_mode():
        features = {name: model.eval().forward_features(images) for name, images in load_file(inputs).items()}
    save_file({name: value.clone().contiguous() for name, value in features.items()}, outputs)


def load_folder(folder: str) -> torch.nn.Module:
    """Load a timm folder."""
    return timm.create_model(f"local-dir:{folder}", pretrained=True)


def load_release(folder: str, weights: str, num_classes: str) -> torch.nn.Module:
    """Load a release's file into the architecture of a folder."""
    config = json.loads((Path(folder) / "config.json").read_text())
    source = {"file": weights, "num_classes": int(num_classes), "custom_load": False}
    return timm.create_model(
        config["architecture"],
        pretrained=True,
        pretrained_cfg_overlay=source,
        num_classes=int(num_classes),
        **config["model_args"],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
