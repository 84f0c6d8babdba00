"""Weights files of the original releases, read safely and brought to timm's key layout.

Shape legend: none, tensors are only renamed here.

Known layouts: plain state dicts (DINO, DINOv2, DeiT); the same wrapped under `teacher`, `model`, `state_dict`, ...
(training checkpoints of DINO and DINOv2, MAE, DeiT, timm); keys under one prefix, whatever it is (`module.backbone.`,
`student_backbone.`, `_fsdp_wrapped_module.`); DINOv2's chunked blocks; DeiT-3's layer-scale names. What is specific to
a family beyond that is left to timm's own checkpoint filters (`loading.py`).
"""

import argparse
import codecs
import logging
import pickle
import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

logger = logging.getLogger(__name__)

# Wrappers of whole checkpoints, best first: the exponential moving average is what a release calls the model.
WRAPPERS = ("teacher", "state_dict_ema", "model_ema", "ema", "state_dict", "model", "module", "backbone", "student")
# First words of tensors that belong to a training head or a decoder, never to a backbone.
FOREIGN_WORDS = (
    *("head", "fc.", "classifier", "decoder", "mask_token", "dino_", "ibot_"),
    *("projector", "predictor", "projection", "lm_head", "logit_scale"),
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a weights file without running any code from it, and unwrap the state dict in it.

    Args:
        path: `.safetensors`, or anything `torch.load` reads (`.pth`, `.pt`, `.bin`, `.ckpt`).

    Returns:
        The state dict as stored: flat, on the CPU, keys untouched.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or none of weights, holds no tensors, or is a pickle that needs more.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist")
    if path.suffix == ".safetensors":
        _require_binary(path)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file ({error}); fetch it again") from error
    return _unwrap(read_torch_file(path), path)


def read_torch_file(path: Path) -> Any:
    """Read what `torch.save` wrote, without running any code from it, and prove that it is whole.

    Args:
        path: An archive, whose parts carry checksums, or a file of torch's older format, which has none.

    Returns:
        What was saved, on the CPU.

    Raises:
        ValueError: If the file is empty, a text, cut short or damaged, or needs more than tensors and plain values.
    """
    _require_binary(path)
    _require_whole(path)
    try:
        # argparse.Namespace only holds values; DINO and MAE store their command line as one
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_explain_refusal(path)) from error
    except (RuntimeError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is not a readable torch file ({reason}); fetch it again") from error


def _require_binary(path: Path) -> None:
    """Call a file that is none of weights what it is: nothing, a pointer to one, a page about one, or another text."""
    with path.open("rb") as file:
        start = file.read(512)
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise ValueError(f"{path} is empty; fetch it again")
    if text.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path} is a Git LFS pointer, not the file that it points to; run `git lfs pull` in its repository, or "
            "download the file itself"
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(
            f"{path} is a web page, not a weights file: the download led to a page, perhaps one to sign in; fetch the "
            "file itself"
        )
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(start)  # which a last character cut in two does not trouble
        if min(start) >= ord("\t"):
            raise ValueError(f"{path} is a text, not a weights file; give a .safetensors or .pth file")


def _require_whole(path: Path) -> None:
    """Check the checksums in an archive, which torch does not."""
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\x03\x04"
    if not archive:
        return
    try:
        with zipfile.ZipFile(path) as content:
            damaged = content.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is cut short or damaged ({error}); fetch it again, or take an older one") from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: what it holds under {damaged} does not match its checksum; fetch it again, or take an "
            "older one"
        )


def _explain_refusal(path: Path) -> str:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a file that only looked like one of torch's
        names = []
    needs = f" ({', '.join(sorted(names))})" if names else ""
    code = (
        "import sys, torch, safetensors.torch as s; c = torch.load(sys.argv[1], map_location='cpu', "
        f"weights_only=False); c = next((c[k] for k in {WRAPPERS} if k in c), c) if isinstance(c, dict) else c; "
        "c = c.state_dict() if hasattr(c, 'state_dict') else c; "
        "s.save_file({k: v.clone().contiguous() for k, v in c.items() if torch.is_tensor(v)}, sys.argv[2])"
    )
    files = shlex.join([str(path), str(path.with_suffix(".safetensors"))])
    return (
        f"{path} is refused: reading it needs more than tensors{needs}, and a pickle can run any code. If you trust "
        "where it comes from, convert it once, away from your data, and give the safetensors file:\n"
        f'  python -c "{code}" {files}'
    )


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    opened: list[str] = []
    while isinstance(content, Mapping):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        wrapper = next((word for word in WRAPPERS if isinstance(content.get(word), Mapping)), None)
        if wrapper is None:
            if not tensors:
                break
            if opened:
                logger.info("%s: took the weights under %s", path.name, ".".join(opened))
            return tensors
        opened.append(wrapper)
        content = content[wrapper]
    raise ValueError(f"{path} holds no state dict of tensors; give a file that maps names to tensors")


def strip_prefixes(state: Mapping[str, Tensor], expected: Collection[str], path: Path) -> dict[str, Tensor]:
    """Cut the wrapper's prefix off the keys and undo DINOv2's block chunks and DeiT-3's layer-scale names.

    Args:
        state: State dict as read.
        expected: Keys of the model that is to receive it.
        path: The file, for the messages.

    Returns:
        State dict in the backbone's own names; tensors outside the prefix are left out and said so.

    Raises:
        ValueError: If two complete backbones with different prefixes are in the file.
    """
    state = dict(state)
    if not any(re.search(r"(^|\.)blocks\.\d+\.\d+\.", key) for key in expected):
        state = {re.sub(r"(^|\.)blocks\.\d+\.(\d+)\.", r"\1blocks.\2.", key): value for key, value in state.items()}
    if any(key.endswith("blocks.0.ls1.gamma") for key in expected):
        state = {re.sub(r"\.gamma_([12])$", r".ls\1.gamma", key): value for key, value in state.items()}
    counts: Counter[str] = Counter()
    for key in state:
        words = key.split(".")
        for cut in range(len(words)):
            if ".".join(words[cut:]) in expected:
                counts["".join(f"{word}." for word in words[:cut])] += 1
                break
    if not counts:
        return state
    (prefix, best), *others = counts.most_common()
    rivals = [repr(other) for other, count in others if count == best]
    if rivals:
        raise ValueError(
            f"{path} holds more than one backbone, under {', '.join([repr(prefix), *rivals])}; "
            "save the one you want alone"
        )
    if not prefix:
        return state
    _state_ignored(path, [key for key in state if not key.startswith(prefix)])
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def drop_foreign(state: Mapping[str, Tensor], expected: Collection[str], path: Path) -> dict[str, Tensor]:
    """Leave out training heads and decoders, which are no part of a backbone, and say so.

    Args:
        state: State dict in timm's names.
        expected: Keys of the model.
        path: The file, for the message.

    Returns:
        The state dict without them; anything else that the model lacks stays, to be reported as unexpected.
    """
    foreign = [key for key in state if key not in expected and key.startswith(FOREIGN_WORDS)]
    _state_ignored(path, foreign)
    return {key: value for key, value in state.items() if key not in foreign}


def require_finite(state: Mapping[str, Tensor], source: str | Path) -> None:
    """Refuse weights that are no numbers: what a training left that diverged.

    Args:
        state: Tensors by name.
        source: Where they are from, for the message.

    Raises:
        ValueError: If there are any; it names the first tensor.
    """
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ValueError(
            f"{source} holds NaN or infinity in {len(broken)} of {len(state)} tensors, first in {broken[0]}: its "
            "training diverged; take an older checkpoint, or train again at a lower learning rate"
        )


def _state_ignored(path: Path, keys: list[str]) -> None:
    if keys:
        groups = Counter(key.split(".")[0] for key in keys)
        listed = ", ".join(f"{word} ({count})" for word, count in sorted(groups.items()))
        logger.warning("%s: ignored %d tensors that are no part of the backbone: %s", path.name, len(keys), listed)
