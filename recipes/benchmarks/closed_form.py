"""What SRT costs beyond its bare passes, in time and in memory.

Claim:    the closed form adds at most 5% to the bare passes; the literal form (upsample, shift, pool) does not
Source:   paper, Sect. 2.5; Algorithm 1
Command:  python recipes/benchmarks/closed_form.py --output runs/benchmarks
Takes:    about 10 minutes on 2 CPU cores (ViT-S/16 at 480x832, 49 shifts, bare passes and SRT in turns)

Bare passes are the same extractor on the same views, features dropped. Both sides run in turns in one process; the
ratio is the median over pairs. Memory is what the maps held at once take, by arithmetic.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from srt_distill.backbone import FeatureExtractor, load_backbone
from srt_distill.ensemble import StochasticResonance, mean_maps
from srt_distill.extractor import Extractor
from srt_distill.files import write_file
from srt_distill.shifts import grid_shifts, pad_images, slice_view, unshift_tokens


def run_bare(extract: Extractor, images: Tensor, radius: int) -> None:
    """All passes of SRT and nothing else."""
    padded = pad_images(images, radius, "edge")
    for shift in grid_shifts(radius):
        extract(slice_view(padded, shift, radius, (images.shape[-2], images.shape[-1])))


def unshift_literally(features: Tensor, shift: tuple[int, int], patch: int) -> Tensor:
    """Upsample to pixels, shift back with repeated edges, pool: what the closed form replaces."""
    dy, dx = shift
    pixels = F.interpolate(features, scale_factor=patch, mode="nearest")
    height, width = pixels.shape[-2:]
    rows = (torch.arange(height) + dy).clamp(0, height - 1)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)
    return F.avg_pool2d(pixels[..., rows, :][..., columns], patch)


def seconds(job: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_small_patch16_224")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 832))
    parser.add_argument("--radius", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()

    extract = FeatureExtractor(load_backbone(options.backbone, pretrained=False))
    images = torch.randn(1, 3, *options.size, generator=torch.Generator().manual_seed(0))
    srt = StochasticResonance(extract, options.radius)
    with torch.inference_mode():
        maps = extract(images)
        patch = images.shape[-2] // maps[0].shape[-2]
        pairs = [
            (seconds(lambda: run_bare(extract, images, options.radius)), seconds(lambda: srt(images)))
            for _ in range(options.pairs)
        ]
        shifts = grid_shifts(options.radius)
        closed = seconds(lambda: mean_maps((unshift_tokens(maps[0], s, patch),) for s in shifts))
        literal = seconds(lambda: mean_maps((unshift_literally(maps[0], s, patch),) for s in shifts))
    ratio = statistics.median(ours / bare for bare, ours in pairs)
    map_bytes, pixel_bytes = maps[0].nbytes, maps[0].nbytes * patch**2
    bare = statistics.median(bare for bare, _ in pairs)
    row = {
        "backbone": options.backbone,
        "size": list(options.size),
        "passes": len(shifts),
        "threads": torch.get_num_threads(),
        "srt_over_bare_passes": ratio,
        "bare_seconds": bare,
        "closed_form_seconds": closed,
        "literal_seconds": literal,
        "closed_form_over_bare": closed / bare,
        "literal_over_bare": literal / bare,
        "closed_form_extra_bytes": 3 * map_bytes,
        "literal_extra_bytes": 2 * pixel_bytes,
    }
    table = f"""| {options.backbone}, {options.size[0]}x{options.size[1]}, {len(shifts)} passes | measured |
|---|---|
| SRT over its bare passes (median of {options.pairs} pairs) | {ratio:.3f}x |
| aggregation alone, closed form | {closed:.3f} s, {100 * closed / bare:.2f}% of the bare passes |
| aggregation alone, upsample-shift-pool | {literal:.2f} s, {100 * literal / bare:.1f}% of the bare passes |
| closed form over literal | {literal / closed:.0f}x faster |
| maps held: closed form (mean, view, neighbour) | {3 * map_bytes / 2**20:.1f} MiB |
| maps held: literal (pixels, shifted pixels) | {2 * pixel_bytes / 2**20:.0f} MiB |
"""
    write_file(options.output / "closed_form.json", json.dumps(row, indent=1) + "\n")
    write_file(options.output / "closed_form.md", table)
    print(table)


if __name__ == "__main__":
    main()
