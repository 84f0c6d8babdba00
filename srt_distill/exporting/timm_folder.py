"""Export as a timm folder, with the proof that it is the same model.

Shape legend: B images, C channels, H W pixels, N tokens.
"""

import copy
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from srt_distill.backbone import (
    backbone_config,
    build_backbone,
    describe_backbone,
    hash_weights,
    save_backbone,
)
from srt_distill.exporting import plain_timm
from srt_distill.exporting.card import write_card
from srt_distill.files import replaced_folder, require_writable
from srt_distill.runs import Run


@dataclass(frozen=True)
class Export:
    """What was proven of an exported folder.

    Attributes:
        folder: Where it is.
        architecture: timm's name of it.
        num_parameters: Of student and teacher alike.
        max_difference: Largest difference between the student's features and the reloaded folder's, per input size.
        student_hash: Fingerprint of the exported weights.
        teacher_hash: Fingerprint of the weights it started from.
    """

    folder: str
    architecture: str
    num_parameters: int
    max_difference: dict[str, float]
    student_hash: str
    teacher_hash: str


def export_timm(run: Run, output: Path) -> Export:
    """Write the student as a folder for `timm.create_model("local-dir:<output>", pretrained=True)`, and prove it equal.

    The folder is reloaded by timm in a fresh interpreter that does not import this package, and must give the student's
    features to the bit at three image sizes; its keys and shapes must be the teacher's. Only then does it take the
    place of an older export.

    Args:
        run: What `load_run` gave.
        output: The folder to write.

    Returns:
        What was proven.

    Raises:
        PermissionError: If the output's parent cannot be written to.
        RuntimeError: If the reloaded folder differs from the student.
    """
    output = Path(output)
    require_writable(output.parent)
    _require_same_keys(run.student, run.teacher)
    info = describe_backbone(run.student)
    with replaced_folder(output) as folder:
        save_backbone(run.student, folder)
        differences = compare_with_plain_timm(run.student, folder)
        worst = max(differences.values())
        if worst != 0:
            raise RuntimeError(
                f"the reloaded export differs from the student by up to {worst:g}; nothing was written to {output}"
            )
        export = Export(
            folder=str(output),
            architecture=info.name,
            num_parameters=info.num_parameters,
            max_difference=differences,
            student_hash=hash_weights(run.student),
            teacher_hash=hash_weights(run.teacher),
        )
        write_card(folder, run, export)
        (folder / "parity.json").write_text(json.dumps({**asdict(export), "folder": output.name}, indent=2) + "\n")
    return export


def compare_with_plain_timm(model: nn.Module, folder: Path) -> dict[str, float]:
    """Largest absolute difference between a model's tokens and those of a folder loaded by timm alone, per image size.

    A model with DINO's position embeddings is compared as timm resizes them: that is what a plain timm model does.
    """
    inputs = _test_images(model)
    with tempfile.TemporaryDirectory() as scratch:
        inputs_file, outputs_file = Path(scratch) / "inputs.safetensors", Path(scratch) / "outputs.safetensors"
        save_file(inputs, inputs_file)
        result = subprocess.run(
            [sys.executable, plain_timm.__file__, str(folder.resolve()), str(inputs_file), str(outputs_file)],
            capture_output=True,
            text=True,
            cwd=scratch,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"timm cannot load the exported folder: {result.stderr.strip()[-2000:]}")
        outputs = load_file(outputs_file)
    plain: Any = build_backbone({**backbone_config(model), "position_embedding": "timm"})
    plain.load_state_dict(copy.deepcopy(model).cpu().state_dict())
    with torch.inference_mode():
        expected = {name: plain.forward_features(images) for name, images in inputs.items()}
    return {name: (outputs[name] - expected[name]).abs().max().item() for name in inputs}


def _test_images(model: nn.Module) -> dict[str, Tensor]:
    info = describe_backbone(model)
    p = info.patch_size
    sizes = [info.fixed_size] if info.fixed_size else [(14 * p, 14 * p), (10 * p, 15 * p), (17 * p, 6 * p)]
    generator = torch.Generator().manual_seed(0)
    return {f"{h}x{w}": torch.randn(1, 3, h, w, generator=generator) for h, w in sizes}


def _require_same_keys(student: nn.Module, teacher: nn.Module) -> None:
    ours = {key: tuple(value.shape) for key, value in student.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in teacher.state_dict().items()}
    if ours != theirs:
        differing = sorted(set(ours.items()) ^ set(theirs.items()))
        raise RuntimeError(
            f"student and teacher differ in keys or shapes: {differing[:5]}; the run's checkpoint is damaged"
        )
