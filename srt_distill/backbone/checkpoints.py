"""Weights files of the original releases, read safely and brought to timm's key layout.

Shape legend: none, tensors are only renamed here.

Known layouts: plain state dicts (DINO, DINOv2, DeiT); the same wrapped under `teacher`, `model`, `state_dict`, ...
(training checkpoints of DINO and DINOv2, MAE, DeiT, timm); keys prefixed `module.`, `backbone.`, `encoder.`, ...
(data-parallel and multi-crop wrappers); DINOv2's chunked blocks; DeiT-3's layer-scale names. What is specific to a
family beyond that is left to timm's own checkpoint filters (`loading.py`).
"""

import argparse
import logging
import pickle
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

logger = logging.getLogger(__name__)

# Wrappers of whole checkpoints, best first: the exponential moving average is what a release calls the model.
WRAPPERS = ("teacher", "state_dict_ema", "model_ema", "ema", "state_dict", "model", "module", "backbone", "student")
PREFIX_WORDS = frozenset(
    (
        *("module", "_orig_mod", "model", "net", "network", "vit", "trunk", "backbone", "feature_extractor"),
        *("encoder", "target_encoder", "base_encoder", "momentum_encoder", "teacher", "student"),
    )
)
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
        ValueError: If the file cannot be read, holds no tensors, or is a pickle that needs more than weights.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights file {path} does not exist")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file ({error}); fetch it again") from error
    try:
        # argparse.Namespace only holds values; DINO and MAE store their command line as one
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(_explain_refusal(path)) from error
    except (RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"{path} is not a readable torch file ({error}); fetch it again") from error
    return _unwrap(content, path)


def _explain_refusal(path: Path) -> str:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        names = []
    needs = f" ({', '.join(sorted(names))})" if names else ""
    target = path.with_suffix(".safetensors")
    return (
        f"{path} is refused: reading it needs more than tensors{needs}, and a pickle can run any code. If you trust "
        "where it comes from, convert it once, away from your data, and give the safetensors file:\n"
        f"  python -c \"import torch, safetensors.torch as s; c = torch.load('{path}', map_location='cpu', "
        "weights_only=False); c = next((c[k] for k in ('teacher', 'state_dict', 'model') if k in c), c); "
        f"s.save_file({{k: v.clone().contiguous() for k, v in c.items() if torch.is_tensor(v)}}, '{target}')\""
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
        parts = key.split(".")
        for cut in range(len(parts)):
            if cut and parts[cut - 1] not in PREFIX_WORDS:
                break
            if ".".join(parts[cut:]) in expected:
                counts["".join(f"{part}." for part in parts[:cut])] += 1
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


def _state_ignored(path: Path, keys: list[str]) -> None:
    if keys:
        groups = Counter(key.split(".")[0] for key in keys)
        listed = ", ".join(f"{word} ({count})" for word, count in sorted(groups.items()))
        logger.warning("%s: ignored %d tensors that are no part of the backbone: %s", path.name, len(keys), listed)
