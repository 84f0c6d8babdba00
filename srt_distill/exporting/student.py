"""Export the student of a run, in every format that is asked for, or not at all.

Shape legend: none, models are only handed on.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from srt_distill.backbone import describe_backbone, hash_weights
from srt_distill.exporting.card import write_card
from srt_distill.exporting.native_transformers import write_native
from srt_distill.exporting.onnx_file import ONNX_MODULES, write_onnx
from srt_distill.exporting.parity import Parity, measure_parity
from srt_distill.exporting.release_file import write_release
from srt_distill.exporting.timm_folder import write_timm
from srt_distill.exporting.torch_program import write_torch_program
from srt_distill.exporting.tracing import trace_backbone
from srt_distill.exporting.transformers_wrapper import TRANSFORMERS_MODULES, prove_transformers
from srt_distill.exporting.verification import Expectation, Proof, expect_features, require_extra
from srt_distill.files import replaced_folder, require_writable
from srt_distill.runs import Run

PARITY_FILE = "parity.json"

Format = Literal["timm", "transformers", "onnx", "torch_export", "release"]
NEEDS: dict[Format, Sequence[str]] = {"transformers": TRANSFORMERS_MODULES, "onnx": ONNX_MODULES}


@dataclass(frozen=True)
class Export:
    """What was proven of an exported folder.

    Attributes:
        folder: Where it is.
        architecture: timm's name of it.
        student_hash: Fingerprint of the exported weights.
        teacher_hash: Fingerprint of the weights it started from.
        parity: Cost of student and teacher.
        proofs: One a format.
    """

    folder: Path
    architecture: str
    student_hash: str
    teacher_hash: str
    parity: Parity
    proofs: tuple[Proof, ...]


def export_student(
    run: Run, output: Path, formats: Sequence[Format] = ("timm",), *, budget: float = 10.0, progress: bool = False
) -> Export:
    """Write the student as a timm folder and in other formats, proven equal, with its cost beside the teacher's.

    Everything is reloaded in a fresh interpreter that does not import this package, and must give the student's
    features. Only then does the folder take the place of an older export.

    Args:
        run: What `load_run` gave.
        output: The folder to write.
        formats: What is wanted besides the timm folder, which is always written.
        budget: Seconds for the comparison of latencies.
        progress: Show a progress bar.

    Returns:
        What was proven; also in parity.json and the model card of the folder.

    Raises:
        ImportError: If a library that a format needs is missing.
        PermissionError: If the output's parent cannot be written to.
        ValueError: If the student has no release layout.
        RuntimeError: If a format differs from the student or cannot hold it, or the student is not of the teacher's
            architecture.
    """
    for format_ in formats:
        require_extra(format_, NEEDS.get(format_, ()))
    require_writable(output.parent)
    expected = expect_features(run.student)
    proofs: list[Proof] = []
    with replaced_folder(output) as folder:
        chosen = {name: write for name, write in _writers(expected, folder).items() if name in {"timm", *formats}}
        with tqdm(chosen.items(), unit="format", disable=not progress, leave=False) as bar:
            for name, write in bar:
                bar.set_description(f"writing and proving {name}")
                proofs += write()
        export = Export(
            folder=output,
            architecture=describe_backbone(run.student).name,
            student_hash=hash_weights(run.student),
            teacher_hash=hash_weights(run.teacher),
            parity=measure_parity(run.student, run.teacher, next(iter(expected.images.values())), budget=budget),
            proofs=tuple(proofs),
        )
        write_card(folder, run, export)
        (folder / PARITY_FILE).write_text(json.dumps(_record(export), indent=2) + "\n")
    return export


def _writers(expected: Expectation, folder: Path) -> dict[Format, Callable[[], list[Proof]]]:
    """What writes and proves each format; the slow ones share a traced program."""
    program = cache(lambda: trace_backbone(expected.model))
    return {
        "timm": lambda: [write_timm(expected, folder)],
        "transformers": lambda: _write_transformers(expected, folder),
        "torch_export": lambda: [write_torch_program(program(), expected, folder)],
        "onnx": lambda: [write_onnx(program(), expected, folder)],
        "release": lambda: [write_release(expected, folder)],
    }


def _write_transformers(expected: Expectation, folder: Path) -> list[Proof]:
    """The wrapper, which loads the timm folder itself, and a native class where there is one."""
    wrapped = prove_transformers(expected, folder)
    try:
        return [wrapped, write_native(expected, folder)]
    except ValueError as reason:
        return [replace(wrapped, remark=f"{wrapped.remark}. No native class: {reason}")]


def _record(export: Export) -> dict:
    record = {**asdict(export), "folder": export.folder.name}
    record["parity"]["verdict"] = export.parity.verdict
    return record
