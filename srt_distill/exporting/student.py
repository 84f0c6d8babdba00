"""Export the student of a run, in every format that is asked for, or not at all.

Shape legend: none, models are only handed on.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from srt_distill.backbone import describe_backbone, hash_weights, require_finite
from srt_distill.ensemble.shifts import subset_shifts
from srt_distill.exporting.card import Card, write_card
from srt_distill.exporting.hub import push_folder, require_hub
from srt_distill.exporting.native_transformers import NATIVE_FOLDER, write_native
from srt_distill.exporting.onnx_file import ONNX_FILE, ONNX_MODULES, write_onnx
from srt_distill.exporting.parity import Parity, measure_parity
from srt_distill.exporting.provenance import find_datasets, find_teachers
from srt_distill.exporting.release_file import RELEASE_FILE, write_release
from srt_distill.exporting.timm_folder import write_timm
from srt_distill.exporting.torch_program import TORCH_FILE, write_torch_program
from srt_distill.exporting.tracing import trace_backbone
from srt_distill.exporting.transformers_wrapper import TRANSFORMERS_MODULES, prove_transformers
from srt_distill.exporting.verification import Expectation, Proof, expect_features, require_extra
from srt_distill.exporting.weight_interpolation import interpolate_weights
from srt_distill.files import Holding, replaced_folder, require_apart, require_replaceable
from srt_distill.runs import PARITY_FILE, Readout, Run, load_run, run_folder

EXPORT_FOLDER = Holding(
    mark=PARITY_FILE,
    names=(
        *("README.md", PARITY_FILE, "config.json", "model.safetensors", ONNX_FILE, f"{ONNX_FILE}.data"),
        *(TORCH_FILE, RELEASE_FILE, f"{NATIVE_FOLDER}/*.json", f"{NATIVE_FOLDER}/model.safetensors"),
    ),
)

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
        readout: How its maps are read where they are judged.
        alpha: How far the weights go from the teacher's (0) to those that were trained (1).
        parity: Cost of student and teacher.
        proofs: One per format.
        address: Of the repository that it was pushed to, if any.
    """

    folder: Path
    architecture: str
    student_hash: str
    teacher_hash: str
    readout: Readout
    alpha: float
    parity: Parity
    proofs: tuple[Proof, ...]
    address: str | None = None


def export_student(
    checkpoint: str | Path | Run,
    output: str | Path,
    formats: Sequence[Format] = (),
    *,
    alpha: float = 1.0,
    push_to_hub: str | None = None,
    private: bool = False,
    budget: float = 10.0,
    progress: bool = False,
) -> Export:
    """Write a run's student as a timm folder and in other formats, proven equal, its cost beside its teacher's.

    Everything is reloaded in a fresh interpreter that does not import this package, and must give the student's
    features. Only then does the folder take the place of an older export.

    Args:
        checkpoint: A run folder that `fit` wrote, one of its .ckpt files, or what `load_run` gave.
        output: The folder to write: absent, empty, or an older export that holds nothing else.
        formats: What is wanted besides the timm folder, which is always written.
        alpha: How far the weights go from the teacher's (0) to the student's (1); see
            `srt_distill.exporting.weight_interpolation`. What is exported, proven and described then lies there.
        push_to_hub: Repository on the Hugging Face hub, owner/name, that gets the folder once everything is proven.
        private: Make that repository private.
        budget: Seconds for the comparison of latencies.
        progress: Show a progress bar.

    Returns:
        What was proven; also in parity.json and the model card of the folder.

    Raises:
        ConnectionError: If the hub is out of reach.
        FileExistsError: If the output holds anything but an older export, or has to do with the run's own folder.
        ImportError: If a library that a format needs is missing.
        PermissionError: If the output cannot be written to, or the hub refuses.
        ValueError: If alpha is not above 0 and at most 1, the student has no release layout, or its weights are no
            numbers.
        RuntimeError: If a format differs from the student or cannot hold it, or the student is not of the teacher's
            architecture.
    """
    output = Path(output)
    for format_ in formats:
        require_extra(format_, NEEDS.get(format_, ()))
    if push_to_hub is not None:
        require_hub(push_to_hub)
    run = interpolate_weights(checkpoint if isinstance(checkpoint, Run) else load_run(checkpoint), alpha)
    require_apart(output, run_folder(run.path), "the run")
    require_replaceable(output, EXPORT_FOLDER)
    require_finite(run.student.state_dict(), f"the student of {run.path}")
    expected = expect_features(run.student)
    proofs: list[Proof] = []
    with replaced_folder(output, EXPORT_FOLDER) as folder:
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
            readout=run.settings["readout"],
            alpha=alpha,
            parity=measure_parity(run.student, run.teacher, next(iter(expected.images.values())), budget=budget),
            proofs=tuple(proofs),
        )
        write_card(folder, make_card(run, export))
        (folder / PARITY_FILE).write_text(json.dumps(_record(export), indent=2) + "\n")
    if push_to_hub is None:
        return export
    return replace(export, address=push_folder(output, push_to_hub, private=private))


def make_card(run: Run, export: Export) -> Card:
    """Gather what a model card says.

    Args:
        run: The run.
        export: What was proven of its student.

    Returns:
        The card's values; teacher and licence only as far as they are known.
    """
    described: Any = run.teacher  # timm's attributes, unknown to nn.Module
    info, srt = describe_backbone(run.student), run.settings["srt"]
    teacher, origin = find_teachers(run.settings, described.pretrained_cfg.get("tag"))
    return Card(
        name=export.folder.resolve().name,
        architecture=export.architecture,
        patch_size=info.patch_size,
        fixed_size=info.fixed_size,
        teacher=teacher,
        origin=origin,
        teacher_hash=export.teacher_hash,
        license=described.pretrained_cfg.get("license"),
        datasets=find_datasets(run.data_settings),
        layers=run.settings["layers"],
        num_shifts=len(subset_shifts(srt["radius"], srt["subset"])),
        interpolation=srt["interpolation"],
        readout=export.readout,
        alpha=export.alpha,
        settings={"model": run.settings, "data": run.data_settings, "steps": run.step},
        scores=run.scores,
        parity=export.parity,
        proofs=export.proofs,
    )


def _writers(expected: Expectation, folder: Path) -> dict[Format, Callable[[], list[Proof]]]:
    """Make what writes and proves each format; the slow ones share a traced program."""
    program = cache(lambda: trace_backbone(expected.model))
    return {
        "timm": lambda: [write_timm(expected, folder)],
        "transformers": lambda: _write_transformers(expected, folder),
        "torch_export": lambda: [write_torch_program(program(), expected, folder)],
        "onnx": lambda: [write_onnx(program(), expected, folder)],
        "release": lambda: [write_release(expected, folder)],
    }


def _write_transformers(expected: Expectation, folder: Path) -> list[Proof]:
    """Write the wrapper, which loads the timm folder itself, and a native class where there is one."""
    wrapped = prove_transformers(expected, folder)
    try:
        return [wrapped, write_native(expected, folder)]
    except ValueError as reason:
        return [replace(wrapped, remark=f"{wrapped.remark}. No native class: {reason}")]


def _record(export: Export) -> dict:
    record = {**asdict(export), "folder": export.folder.resolve().name}
    del record["address"]
    record["parity"]["verdict"] = export.parity.verdict
    return record
