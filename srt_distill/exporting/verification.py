"""Proof that an exported format is the student: the same images through it, in an interpreter without this package.

Shape legend: B images, C channels, H W pixels, p patch side in pixels.
"""

import copy
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from srt_distill.backbone import backbone_config, build_backbone, describe_backbone

SCRIPTS = Path(__file__).parent  # the plain_*.py: run, never imported here
MAX_NATIVE_TOKENS = 40 * 40  # a native grid beyond this is too slow to be checked at; 14x14 is taken instead


@dataclass(frozen=True)
class Proof:
    """What was proven of one format.

    Attributes:
        format: The format, as a reader would call it.
        file: Path inside the exported folder, "." for the folder itself.
        loading: Line of Python that loads it, with FOLDER for the exported folder.
        bar: Largest difference that was allowed.
        differences: Largest difference from the student's features, per image size.
        remark: What a user of the format must know; empty if nothing.
    """

    format: str
    file: str
    loading: str
    bar: float
    differences: dict[str, float]
    remark: str = ""


@dataclass(frozen=True)
class Expectation:
    """Images and the features that every format must make of them.

    Attributes:
        model: The student as plain timm has it: position embeddings resized timm's way.
        images: Per name of a size, images (B, K, H, W); B differs from size to size.
        features: Per name, `model.forward_features(images)`.
    """

    model: nn.Module
    images: dict[str, Tensor]
    features: dict[str, Tensor]


def expect_features(student: nn.Module) -> Expectation:
    """Run the student on test images of three sizes, or of the one size that it takes.

    Args:
        student: A backbone.

    Returns:
        What its exports are held against.
    """
    model: Any = build_backbone({**backbone_config(student), "position_embedding": "timm"})
    model.load_state_dict(copy.deepcopy(student).cpu().state_dict())
    images = make_test_images(model)
    with torch.inference_mode():
        features = {name: model.forward_features(batch) for name, batch in images.items()}
    return Expectation(model, images, features)


def make_test_images(model: nn.Module) -> dict[str, Tensor]:
    """Random images of the model's native size and of two others, one landscape, one portrait.

    Args:
        model: A backbone.

    Returns:
        Batches (B, K, H, W) of one, two and three images, under names such as `224x224`.
    """
    info = describe_backbone(model)
    p = info.patch_size
    native = getattr(getattr(model, "patch_embed", None), "grid_size", None) or (14, 14)
    rows, columns = native if native[0] * native[1] <= MAX_NATIVE_TOKENS else (14, 14)
    sizes = [info.fixed_size] if info.fixed_size else [(rows * p, columns * p), (10 * p, 15 * p), (17 * p, 6 * p)]
    generator = torch.Generator().manual_seed(0)
    bands = info.num_channels
    return {f"{h}x{w}": torch.randn(b, bands, h, w, generator=generator) for b, (h, w) in enumerate(sizes, start=1)}


def run_apart(script: Path, arguments: Sequence[str], images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run a script on images in a fresh interpreter that does not import this package.

    Args:
        script: Called as `python SCRIPT *ARGUMENTS INPUTS OUTPUTS`, where INPUTS is a safetensors file of the images
            and OUTPUTS gets features under the same names.
        arguments: What the script is told besides.
        images: Batches (B, K, H, W).

    Returns:
        What the script wrote.

    Raises:
        RuntimeError: If the script failed; the last line of what it said is in the message.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "inputs.safetensors", Path(scratch) / "outputs.safetensors"
        save_file(dict(images), inputs)
        result = subprocess.run(
            [sys.executable, "-P", str(script), *arguments, str(inputs), str(outputs)],  # -P: no module beside it
            capture_output=True,
            text=True,
            cwd=scratch,
            check=False,
        )
        if result.returncode:
            raise RuntimeError(
                f"{script.stem} cannot run what was exported, so nothing was written: "
                f"{(result.stderr.strip().splitlines() or ['no reason was given'])[-1]}"
            )
        return load_file(outputs)


def require_equal(
    what: str, outputs: Mapping[str, Tensor], expected: Mapping[str, Tensor], bar: float
) -> dict[str, float]:
    """Largest differences between what a format computed and what it had to, which must not exceed a bar.

    Args:
        what: The format, for the message.
        outputs: Features, per image size.
        expected: The student's.
        bar: Largest difference allowed.

    Returns:
        Per image size, the largest absolute difference.

    Raises:
        RuntimeError: If shapes differ, or values by more than the bar.
    """
    differences = {}
    for name, wanted in expected.items():
        given = outputs[name]
        if given.shape != wanted.shape:
            raise RuntimeError(
                f"the export as {what} gives features of shape {tuple(given.shape)} for an image of {name} pixels, the "
                f"student {tuple(wanted.shape)}; nothing was written"
            )
        differences[name] = (given - wanted).abs().max().item()
    beyond = [difference for difference in differences.values() if not difference <= bar]  # so that NaN is beyond
    if beyond:
        raise RuntimeError(
            f"the export as {what} differs from the student by up to {max(beyond):g}, more than {bar:g}; nothing was "
            "written"
        )
    return differences


def require_extra(what: str, modules: Sequence[str]) -> None:
    """Check that the libraries of a format are there, before work is spent.

    Raises:
        ImportError: If one is missing; the message names the extra that brings it.
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ImportError(
            f"the format {what} needs {', '.join(missing)}, not installed here; pip install 'srt-distill[export]', or "
            "leave the format out"
        )


def reason_of(error: Exception) -> str:
    """First line of what an error, or the one that caused it, says."""
    root = error.__cause__ or error
    return next(iter(str(root).strip().splitlines()), type(root).__name__)
