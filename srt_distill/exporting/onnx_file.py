"""Export as an ONNX file for any number of images of any size.

Shape legend: B images, H W pixels.
"""

import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from srt_distill.exporting.tracing import INPUT, OUTPUT
from srt_distill.exporting.verification import SCRIPTS, Expectation, Proof, reason_of, require_equal, run_apart

ONNX_FILE = "model.onnx"
ONNX_BAR = 1e-4
ONNX_MODULES = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(program: ExportedProgram, expected: Expectation, folder: Path) -> Proof:
    """Write the traced student as model.onnx: input `images`, output `features`.

    Args:
        program: What `trace_backbone` gave.
        expected: The student and its features.
        folder: Where to write.

    Returns:
        The proof that ONNX Runtime computes the same.

    Raises:
        RuntimeError: If it does not, or an operation has no counterpart in ONNX.
    """
    file = folder / ONNX_FILE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch on its own deprecations
        try:
            written = torch.onnx.export(program, dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False)
        except Exception as error:  # the exporter raises of many kinds
            raise RuntimeError(
                f"the student cannot be written as ONNX: {reason_of(error)}; leave out the format onnx"
            ) from error
    if written is None:
        raise RuntimeError("the student cannot be written as ONNX: torch gave no program; leave out the format onnx")
    written.save(file)
    outputs = run_apart(SCRIPTS / "plain_onnx.py", [str(file.resolve())], expected.images)
    return Proof(
        format="ONNX",
        file=ONNX_FILE,
        loading=f'onnxruntime.InferenceSession("FOLDER/{ONNX_FILE}")',
        bar=ONNX_BAR,
        differences=require_equal("an ONNX file", outputs, expected.features, ONNX_BAR),
    )
