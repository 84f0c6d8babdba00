"""What SRT costs beyond its bare passes, in time and in peak memory.

Claim:    the closed form adds at most 5% to the bare passes; the literal form (upsample, shift, pool) does not
Source:   paper, Sect. 2.5; Algorithm 1
Command:  python recipes/benchmarks/closed_form.py
Takes:    about 6 minutes on 2 CPU cores with --num_shifts 7 --pairs 7; with all 49 shifts about 20

Bare passes are the same extractor on the same views, features dropped. SRT and bare passes run in turns in one process;
the ratio is the median over pairs. Peak memory is what torch allocates, over four shifts (it does not grow with their
number). What moving maps back and averaging takes by itself is timed on one map of the same size, in the closed form
and literally.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from measuring import RESULTS, peak_allocated, write_table
from torch import Tensor

from srt_distill import FeatureExtractor, StochasticResonance, load_backbone
from srt_distill.comparison import choose_device
from srt_distill.ensemble import mean_maps
from srt_distill.ensemble.shifts import Shift, grid_shifts, lattice_shifts, pad_images, slice_view, unshift_tokens
from srt_distill.extractor import Extractor
from srt_distill.latency import time_pairs

CLAIM = """
What SRT adds to its passes. Bare passes: the same extractor on the same shifted views, features dropped, one view at a
time. Time: median ratio of SRT to bare passes run in turns, with the interval of that median. Memory: the most that
torch has allocated at once; of earlier views SRT holds one map, their mean. Aggregation: moving all maps back and
averaging them, without any pass.
"""


def run_bare(extract: Extractor, images: Tensor, radius: int, shifts: Sequence[Shift]) -> None:
    """All passes of SRT and nothing else."""
    padded = pad_images(images, radius, "edge")
    with torch.inference_mode():
        for shift in shifts:
            extract(slice_view(padded, shift, radius, (images.shape[-2], images.shape[-1])))


def run_srt(srt: StochasticResonance, images: Tensor, shifts: Sequence[Shift]) -> None:
    """Run the same passes, moved back and averaged."""
    with torch.inference_mode():
        srt(images, shifts)


def unshift_literally(features: Tensor, shift: Shift, patch: int) -> Tensor:
    """Upsample to pixels, shift back with repeated edges, pool: what the closed form replaces."""
    dy, dx = shift
    pixels = F.interpolate(features, scale_factor=patch, mode="nearest")
    height, width = pixels.shape[-2:]
    rows = (torch.arange(height, device=features.device) + dy).clamp(0, height - 1)
    columns = (torch.arange(width, device=features.device) + dx).clamp(0, width - 1)
    return F.avg_pool2d(pixels[..., rows, :][..., columns], patch)


def aggregate(unshift: Callable[[Tensor, Shift, int], Tensor], features: Tensor, patch: int, radius: int) -> Tensor:
    """Average over all shifts, as if every view had these features."""
    with torch.inference_mode():
        return mean_maps((unshift(features, shift, patch),) for shift in grid_shifts(radius))[0]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="vit_small_patch16_224", help="timm name; random weights do")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 832), help="height and width in pixels")
    parser.add_argument("--radius", type=int, default=3, help="d, in pixels")
    parser.add_argument("--num_shifts", type=int, help="evenly spread shifts a run; all (2d+1)² by default")
    parser.add_argument("--pairs", type=int, default=3, help="runs of SRT and of bare passes in turns")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the page")
    options = parser.parse_args()

    device, radius = choose_device(options.device), options.radius
    full = grid_shifts(radius)
    shifts = lattice_shifts(radius, options.num_shifts) if options.num_shifts else full
    backbone = load_backbone(options.backbone, pretrained=False).to(device)
    extract = FeatureExtractor(backbone)
    images = torch.randn(1, 3, *options.size, generator=torch.Generator().manual_seed(0)).to(device)
    ours = time_pairs(
        partial(run_srt, StochasticResonance(extract, radius), images, shifts),
        partial(run_bare, extract, images, radius, shifts),
        device,
        max_pairs=options.pairs,
        budget=float("inf"),
    )
    with torch.inference_mode():
        features = extract(images)[0]
    patch = images.shape[-2] // features.shape[-2]
    alone = time_pairs(
        partial(aggregate, unshift_tokens, features, patch, radius),
        partial(aggregate, unshift_literally, features, patch, radius),
        device,
        max_pairs=1,  # the literal form takes a minute, and the two are hundreds of times apart
    )
    difference = (
        (aggregate(unshift_tokens, features, patch, radius) - aggregate(unshift_literally, features, patch, radius))
        .abs()
        .max()
    )

    bare = ours.reference_seconds / len(shifts) * len(full)
    rows = [
        [
            "SRT over bare passes, time",
            f"{ours.ratio:.3f}x ({ours.ratio_low:.3f} to {ours.ratio_high:.3f}, {ours.num_pairs} pairs)",
        ],
        ["bare passes", f"{ours.reference_seconds / len(shifts):.3f} s each"],
        [
            f"aggregation of {len(full)} maps alone, closed form",
            f"{alone.seconds:.3f} s, {alone.seconds / bare:.2%} of {len(full)} passes",
        ],
        [
            "the same, upsample, shift, pool",
            f"{alone.reference_seconds:.2f} s, {alone.reference_seconds / bare:.1%} of {len(full)} passes",
        ],
        ["largest difference between the two", f"{difference:.1e}"],
    ]
    few = lattice_shifts(radius, 4)
    srt = peak_allocated(partial(run_srt, StochasticResonance(extract, radius), images, few), device)
    bare_passes = peak_allocated(partial(run_bare, extract, images, radius, few), device)
    held = sum(t.nbytes for t in (*backbone.parameters(), *backbone.buffers(), images)) / 2**20
    rows += [
        [
            "SRT over bare passes, peak memory with weights and image",
            f"{(held + srt) / (held + bare_passes):.3f}x ({held + srt:.1f} over {held + bare_passes:.1f} MiB)",
        ],
        [
            "the same without weights and image",
            f"{srt / bare_passes:.3f}x ({srt:.1f} over {bare_passes:.1f} MiB; one map is "
            f"{features.nbytes / 2**20:.1f} MiB)",
        ],
    ]
    shape = f"{options.backbone}, {options.size[0]}x{options.size[1]}, d = {radius}, {len(shifts)} shifts"
    write_table(options.output, "closed_form", CLAIM, device, [shape, "measured"], rows)


if __name__ == "__main__":
    main()
