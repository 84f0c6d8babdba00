"""Run an ONNX file with ONNX Runtime alone: a script for an interpreter that imports neither this package nor torch.

Shape legend: B images, H W pixels.

Usage: python plain_onnx.py FILE INPUTS OUTPUTS, where INPUTS is a safetensors file of images (B, 3, H, W) and OUTPUTS
gets under each name what the file makes of them.
"""

import sys

import numpy as np
import onnxruntime
from safetensors.numpy import load_file, save_file


def main(file: str, inputs: str, outputs: str) -> None:
    """Load the file as any user of ONNX Runtime does and write what it computes."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    features = {name: session.run(None, {"images": images})[0] for name, images in load_file(inputs).items()}
    save_file({name: np.asarray(value) for name, value in features.items()}, outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
