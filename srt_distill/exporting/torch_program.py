"""Export as a program of torch.export, which torch alone runs.

Shape legend: none, the comparison is in `verification`.
"""

from pathlib import Path

import torch
from torch.export import ExportedProgram

from srt_distill.exporting.verification import SCRIPTS, Expectation, Proof, require_equal, run_apart

TORCH_FILE = "model.pt2"
TORCH_BAR = 1e-5  # tracing may reorder sums


def write_torch_program(program: ExportedProgram, expected: Expectation, folder: Path) -> Proof:
    """Write the traced student as model.pt2.

    Args:
        program: What `trace_backbone` gave.
        expected: The student and its features.
        folder: Where to write.

    Returns:
        The proof that torch alone computes the same.

    Raises:
        RuntimeError: If it does not.
    """
    file = folder / TORCH_FILE
    torch.export.save(program, file)
    outputs = run_apart(SCRIPTS / "plain_torch.py", [str(file.resolve())], expected.images)
    return Proof(
        format="torch.export",
        file=TORCH_FILE,
        loading=f'torch.export.load("FOLDER/{TORCH_FILE}").module()',
        bar=TORCH_BAR,
        differences=require_equal("a torch.export program", outputs, expected.features, TORCH_BAR),
    )
