"""One shard of a target cache: the targets of some crops, beside the digests of these crops.

Shape legend: N crops of a shard, 3 colours, H W pixels with the margin, C channels, h w tokens.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Real
from safetensors.torch import save_file
from torch import Tensor

from srt_distill.files import replaced_file, write_file

DIGEST_SIZE = 16
"""Bytes of a crop's digest: 128 bits make a chance collision among 10^9 crops as likely as 10^-21."""

CROPS = "crops"
"""Name of the tensor of digests in a shard."""


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies; its checksum lies beside it under the ending `.json`."""
    return folder / f"shard-{number:05d}.safetensors"


def target_name(index: int) -> str:
    """Name of the tensor of targets (N, C, h, w) of the index-th chosen layer."""
    return f"target_{index}"


def digest_crop(crop: Real[Tensor, "K H W"]) -> bytes:
    """Return what a crop is known by: BLAKE2b of its pixels; image, view and transform are all in it."""
    return hashlib.blake2b(crop.contiguous().cpu().numpy().tobytes(), digest_size=DIGEST_SIZE).digest()


def round_to_half(maps: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
    """Round targets to fp16: an error of at most 2^-11 of each value, or 2^-25 where that is more.

    Raises:
        ValueError: If a value is beyond the range of fp16.
    """
    half = maps.half()
    if not torch.isfinite(half).all():
        raise ValueError(
            f"a target reaches {maps.abs().max():.6g}, beyond the 65504 of fp16; choose another layer or "
            "model.norm true, or train without a cache"
        )
    return half


def write_shard(
    path: Path, digests: Sequence[bytes], targets: Sequence[Float[Tensor, "N _C _h _w"]], manifest_hash: str
) -> None:
    """Write a shard, and only then its checksum: a kill in between leaves a shard that counts as unfinished.

    Args:
        path: Of the shard.
        digests: Of its N crops.
        targets: fp16, one tensor a layer.
        manifest_hash: Of the cache it belongs to.
    """
    tensors = {target_name(i): maps.contiguous() for i, maps in enumerate(targets)}
    tensors[CROPS] = torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(-1, DIGEST_SIZE)
    with replaced_file(path) as temporary:
        save_file(tensors, temporary)
        checksum = _checksum(temporary)
    write_file(path.with_suffix(".json"), json.dumps({"sha256": checksum, "manifest": manifest_hash}) + "\n")


def find_fault(path: Path, manifest_hash: str) -> str | None:
    """Why a shard cannot be used; None for a good one. Reads the whole file.

    Args:
        path: Of the shard.
        manifest_hash: Of the cache it should belong to.
    """
    try:
        record = dict(json.loads(path.with_suffix(".json").read_text()))
        checksum = _checksum(path)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"{path.name} cannot be read ({error})"
    if record.get("manifest") != manifest_hash:
        return f"{path.name} belongs to a cache of other settings"
    if record.get("sha256") != checksum:
        return f"{path.name} is damaged (its checksum differs)"
    return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
