"""Run an exported folder through Transformers: a script for an interpreter that never imports this package.

Shape legend: B images, H W pixels.

Usage: python plain_transformers.py FOLDER INPUTS OUTPUTS, where INPUTS is a safetensors file of images (B, 3, H, W) and
OUTPUTS gets under each name what `AutoModel` makes of them.
"""

import inspect
import sys
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel


def main(folder: str, inputs: str, outputs: str) -> None:
    """Load the folder as any user of Transformers does, with nothing missing, and write what it computes."""
    loaded: Any = AutoModel.from_pretrained(folder, output_loading_info=True)
    model, report = loaded
    unexpected = [key for key in report["unexpected_keys"] if "head" not in key]  # AutoModel has no classifier
    if report["missing_keys"] or report["mismatched_keys"] or unexpected:
        raise SystemExit(f"AutoModel left weights out or made some up: {report}")
    options = {"do_pooling": False, "interpolate_pos_encoding": True}
    known = inspect.signature(model.forward).parameters
    options = {name: value for name, value in options.items() if name in known}
    with torch.inference_mode():
        features = {
            name: model.eval()(images, **options).last_hidden_state for name, images in load_file(inputs).items()
        }
    save_file({name: value.clone().contiguous() for name, value in features.items()}, outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
