"""Full-grid SRT targets on disk: computed once for fixed crops, looked up by the pixels of a crop.

A cache is a folder: `manifest.json` says what its targets were made of, and each `shard-00012.safetensors` holds the
targets of some crops beside the digests of these crops, with its checksum in `shard-00012.json`.
"""

from srt_distill.training.target_cache.filling import CacheLayout, fill_shards, prepare_folder, unfinished_shards
from srt_distill.training.target_cache.manifest import TargetSettings, describe_settings, list_differences
from srt_distill.training.target_cache.reading import TargetCache

__all__ = [
    "CacheLayout",
    "TargetCache",
    "TargetSettings",
    "describe_settings",
    "fill_shards",
    "list_differences",
    "prepare_folder",
    "unfinished_shards",
]
