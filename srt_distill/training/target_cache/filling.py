"""Compute the targets of a cache, shard by shard: killed half-way it goes on, and processes share the shards.

Shape legend: B crops of a batch, K bands, H W pixels with the margin, C channels, h w tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Real
from torch import Tensor

from srt_distill.training.target_cache.manifest import (
    MANIFEST,
    check_settings,
    hash_manifest,
    read_manifest,
    write_manifest,
)
from srt_distill.training.target_cache.shards import digest_crop, find_fault, round_to_half, shard_path, write_shard


@dataclass(frozen=True)
class CacheLayout:
    """How crops are laid out in shards: in order of their numbers.

    Attributes:
        num_crops: Crops in all.
        crops_per_shard: Crops of every shard but the last; what a kill can cost.
    """

    num_crops: int
    crops_per_shard: int

    def __post_init__(self) -> None:
        if self.crops_per_shard < 1:
            raise ValueError(f"crops_per_shard {self.crops_per_shard} is not a positive number; use 1 or more")

    @property
    def num_shards(self) -> int:
        """Shards in all."""
        return -(-self.num_crops // self.crops_per_shard)

    def numbers(self, shard: int) -> range:
        """Numbers of the crops in a shard."""
        first = shard * self.crops_per_shard
        return range(first, min(first + self.crops_per_shard, self.num_crops))


def layout_of(manifest: dict[str, Any]) -> CacheLayout:
    """Return the layout recorded in a manifest."""
    return CacheLayout(manifest["num_crops"], manifest["crops_per_shard"])


def prepare_folder(folder: Path, settings: dict[str, Any], layout: CacheLayout) -> dict[str, Any]:
    """Begin a cache, or prove that the one begun there is of the same settings and layout.

    Args:
        folder: Of the cache.
        settings: What its targets are made of; see `describe_settings`.
        layout: How they are laid out.

    Returns:
        The manifest.

    Raises:
        ValueError: If the folder holds a cache of other settings.
    """
    manifest = {
        **settings,
        "dtype": "float16",
        "num_crops": layout.num_crops,
        "crops_per_shard": layout.crops_per_shard,
    }
    if (folder / MANIFEST).exists():
        check_settings(folder, read_manifest(folder), manifest)
    else:
        write_manifest(folder, manifest)
    return manifest


def unfinished_shards(folder: Path, manifest: dict[str, Any], num_processes: int = 1, process: int = 0) -> list[int]:
    """Shards of a process that are missing or damaged. Reads every shard it has.

    Args:
        folder: Of the cache.
        manifest: Of the cache.
        num_processes: How many processes share the shards; they are dealt out like cards.
        process: Which of them this is, from 0.

    Raises:
        ValueError: If there is no such process.
    """
    if not 0 <= process < num_processes:
        raise ValueError(f"process {process} is not one of {num_processes}; number them 0 to num_processes - 1")
    shards = range(process, layout_of(manifest).num_shards, num_processes)
    expected = hash_manifest(manifest)
    return [shard for shard in shards if find_fault(shard_path(folder, shard), expected) is not None]


def fill_shards(
    folder: Path,
    manifest: dict[str, Any],
    shards: Sequence[int],
    load: Callable[[list[range]], Iterable[Real[Tensor, "B K H W"]]],
    compute: Callable[[Real[Tensor, "B K H W"]], tuple[Tensor, ...]],
    batch_size: int,
) -> Iterator[int]:
    """Compute shards and write each when it is complete.

    Args:
        folder: Of the cache.
        manifest: Of the cache.
        shards: Which ones.
        load: Batches of crops, given the numbers of each batch's crops.
        compute: Targets (B, C, h, w) of a batch, one per layer.
        batch_size: Crops per batch.

    Yields:
        After each batch, how many crops it had.

    Raises:
        ValueError: If a target is beyond the range of fp16.
    """
    layout, manifest_hash = layout_of(manifest), hash_manifest(manifest)
    plan = [_cut(layout.numbers(shard), batch_size) for shard in shards]
    batches = iter(load([batch for part in plan for batch in part]))
    for shard, part in zip(shards, plan, strict=True):
        digests: list[bytes] = []
        targets: list[tuple[Tensor, ...]] = []
        for _ in part:
            crops = next(batches)
            digests += [digest_crop(crop) for crop in crops]
            targets.append(tuple(round_to_half(maps).cpu() for maps in compute(crops)))
            if len(targets) == len(part):
                layers = [torch.cat(maps) for maps in zip(*targets, strict=True)]
                write_shard(shard_path(folder, shard), digests, layers, manifest_hash)
            yield len(crops)


def _cut(numbers: range, size: int) -> list[range]:
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
