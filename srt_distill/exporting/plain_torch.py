"""Run a program of torch.export with torch alone: a script for an interpreter that never imports this package.

Shape legend: B images, H W pixels.

Usage: python plain_torch.py FILE INPUTS OUTPUTS, where INPUTS is a safetensors file of images (B, 3, H, W) and OUTPUTS
gets under each name what the program makes of them.
"""

import sys

import torch
from safetensors.torch import load_file, save_file


def main(file: str, inputs: str, outputs: str) -> None:
    """Load the program as any user of torch does and write what it computes."""
    program = torch.export.load(file).module()
    with torch.inference_mode():
        features = {name: program(images) for name, images in load_file(inputs).items()}
    save_file({name: value.clone().contiguous() for name, value in features.items()}, outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
