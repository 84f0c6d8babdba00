"""Look targets up by the pixels of their crops.

Shape legend: B crops of a batch, K bands, H W pixels with the margin, C channels, h w tokens.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Real
from safetensors import safe_open
from torch import Tensor

from srt_distill.training.target_cache.filling import layout_of
from srt_distill.training.target_cache.manifest import check_settings, hash_manifest, read_manifest
from srt_distill.training.target_cache.shards import CROPS, digest_crop, find_fault, shard_path, target_name


class TargetCache:
    """A complete target cache, memory-mapped: SRT(x, w0) of Eq. 6 for every crop x in it, in fp16.

    Opening reads every shard once against its checksum. What stays in memory is the index, about 200 bytes per crop.

    Args:
        folder: That `srt-distill cache` filled.
        settings: What its targets must have been made of; see `describe_settings`.

    Raises:
        FileNotFoundError: If the folder is no cache.
        ValueError: If it was made of anything else, or a shard is missing or damaged.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        manifest = read_manifest(folder)
        check_settings(folder, manifest, settings)
        layout, manifest_hash = layout_of(manifest), hash_manifest(manifest)
        paths = [shard_path(folder, shard) for shard in range(layout.num_shards)]
        faults = [fault for path in paths if (fault := find_fault(path, manifest_hash)) is not None]
        if faults:
            raise ValueError(
                f"target cache {folder} lacks {len(faults)} of {len(paths)} shards: {faults[0]}; "
                "run srt-distill cache with the same settings and folder again: it computes these only"
            )
        self.folder = folder
        self.num_layers = len(manifest["model.layers"])
        self._shards = [safe_open(path, framework="pt") for path in paths]
        self._rows = {
            row.numpy().tobytes(): (shard, i)
            for shard, opened in enumerate(self._shards)
            for i, row in enumerate(opened.get_tensor(CROPS))
        }

    def __len__(self) -> int:
        """Return the number of different crops."""
        return len(self._rows)

    def __call__(self, crops: Real[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Targets (B, C, h, w) in fp16, one per layer, where the crops are.

        Raises:
            ValueError: If a crop is not in the cache.
        """
        rows = [self._find(crop) for crop in crops.cpu()]
        return tuple(
            torch.cat([self._shards[shard].get_slice(target_name(layer))[i : i + 1] for shard, i in rows]).to(
                crops.device
            )
            for layer in range(self.num_layers)
        )

    def _find(self, crop: Real[Tensor, "K H W"]) -> tuple[int, int]:
        row = self._rows.get(digest_crop(crop))
        if row is None:
            raise ValueError(
                f"a training crop is not among the {len(self)} of target cache {self.folder}: since it was filled an "
                "image has changed, become readable or unreadable, or is decoded or resized by another version of a "
                "library; fill a new folder with srt-distill cache and train on that"
            )
        return row
