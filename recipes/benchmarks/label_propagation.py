"""Label propagation against the protocol taken literally: time, peak memory and masks, on the same features.

Claim:    at 480p with 8 context frames at least 5 times faster at patch 16 and 10 times at patch 8, at most a fifth of
          the memory at patch 8, the same masks but for exact ties
Source:   DINO (Caron et al., 2021), eval_video_segmentation; the baseline is written from it: affinity of all pairs by
          one batched product, exp, times the window, the k-th largest as threshold, renormalised, one product with the
          labels. Its window mask is made once and not timed, as there. A second baseline does the same with queries
          along rows, where a top-k is quicker than down the columns: what a careful reader would change first.
Command:  python recipes/benchmarks/label_propagation.py --data DAVIS --weights deit_tiny_patch16_224.safetensors
Takes:    about 4 minutes on 2 CPU cores; without --data and --weights on smooth random features, about 3

Features come from real frames through `--backbone` (patch 8 grid: the same backbone on frames of twice the size), or
are smooth random fields that drift. Both ways carry the first mask through 9 frames and masks are compared; what is
timed is the step to the last frame. Peak memory is that of one such step in a fresh process, beyond its inputs.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from measuring import RESULTS, measure_peak, speed_up, write_table
from torch import Tensor

from srt_distill.backbone import FeatureExtractor, load_backbone
from srt_distill.latency import time_pairs
from srt_distill.tasks.davis.label_propagation import (
    LabelPropagator,
    PropagationOptions,
    harden_labels,
    propagate_labels,
    shrink_mask,
)
from srt_distill.tasks.davis.task import DINO
from srt_distill.tasks.davis.videos import open_video, read_frame, read_mask, resize_frame

CPU = torch.device("cpu")
PROTOCOL = PropagationOptions()
RADIUS = PROTOCOL.window_radius or 12  # of the window in tokens
TIE = 1e-5  # labels stretched to [0, 1] whose two largest are nearer than this are equal but for rounding


class Clip(NamedTuple):
    """Features (C, h, w) of some frames and one-hot labels (K, h, w) of the first."""

    features: list[Tensor]
    labels: Tensor


def smooth_clip(size: tuple[int, int], num_frames: int, channels: int = 192) -> Clip:
    """Make a smooth random field that drifts by a token per frame under noise; four objects in its first frame."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    coarse = torch.randn(1, channels, height // 4 + 2, width // 4 + 2, generator=generator)
    field = F.interpolate(coarse, (height, width + num_frames), mode="bilinear")[0]
    noise = [0.3 * torch.randn(channels, height, width, generator=generator) for _ in range(num_frames)]
    mask = np.zeros((8 * height, 8 * width), dtype=np.uint8)
    for k in range(4):
        top, left = (8 * height * (1 + 5 * (k // 2)) // 10, 8 * width * (1 + 5 * (k % 2)) // 10)
        mask[top : top + 3 * height, left : left + 2 * width] = k + 1
    return Clip([field[..., t : t + width] + noise[t] for t in range(num_frames)], shrink_mask(mask, 5, size))


def real_clip(
    data: Path, sequence: str, backbone: str, weights: Path, size: tuple[int, int], patch: int, num_frames: int
) -> Clip:
    """Last-block features of a video's first frames, resized so that its tokens make the wanted grid."""
    video = open_video(data, sequence)
    extract = FeatureExtractor(load_backbone(backbone, weights=str(weights)))
    pixels = size[0] * patch, size[1] * patch
    with torch.inference_mode():
        features = [
            extract(DINO(resize_frame(read_frame(path), pixels)[None]))[-1][0] for path in video.frames[:num_frames]
        ]
    mask = read_mask(video.masks[0])
    return Clip(features, shrink_mask(mask, int(mask.max()) + 1, size))


def make_window(height: int, width: int, num_context: int) -> Tensor:
    """Ones (N, h·w, h·w) where two tokens are within the window of each other."""
    row, column = (
        index.flatten() for index in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    )
    inside = ((row[:, None] - row).abs() <= RADIUS) & ((column[:, None] - column).abs() <= RADIUS)
    return inside.float().repeat(num_context, 1, 1)


def propagate_densely(query: Tensor, context: Tensor, labels: Tensor, window: Tensor, rows: bool = False) -> Tensor:
    """Propagate as the protocol's script has it, all pairs at once.

    Args:
        query: (C, h, w).
        context: (N, C, h, w).
        labels: (N, K, h, w).
        window: From `make_window`, for at least N frames.
        rows: Keep queries along rows, instead of transposing the affinity as the script does.

    Returns:
        Soft labels (K, h, w).
    """
    num_context, _, height, width = context.shape
    queries = F.normalize(query.flatten(1).T, dim=1)
    keys = F.normalize(context.flatten(2), dim=1)
    affinity = torch.exp(
        torch.bmm(queries.repeat(num_context, 1, 1), keys) / PROTOCOL.temperature
    )  # (N, queries, keys)
    affinity *= window[:num_context]
    known = labels.flatten(2).transpose(1, 2).flatten(0, 1)  # (N·keys, K)
    order, keys_dim = ((1, 0, 2), 1) if rows else ((0, 2, 1), 0)
    affinity = affinity.permute(order).reshape((height * width, -1) if rows else (-1, height * width))
    kth = torch.topk(affinity, PROTOCOL.top_k, dim=keys_dim).values.amin(keys_dim, keepdim=True)
    affinity[affinity < kth] = 0
    affinity = affinity / affinity.sum(keys_dim, keepdim=True)
    soft = (affinity @ known).T if rows else known.T @ affinity
    return soft.view(-1, height, width)


def compare_masks(clip: Clip, window: Tensor, patch: int) -> tuple[int, int, int]:
    """Carry the first labels through a clip both ways.

    Returns:
        Pixels whose ids differ, those among them whose two best labels are no tie, and pixels in all.
    """
    propagator = LabelPropagator(clip.features[0], clip.labels, PROTOCOL)
    soft = [clip.labels]
    different = not_tied = total = 0
    for t in range(1, len(clip.features)):
        used = [0, *range(max(1, t - PROTOCOL.num_context_frames), t)]
        context = torch.stack([clip.features[i] for i in used])
        soft.append(propagate_densely(clip.features[t], context, torch.stack([soft[i] for i in used]), window))
        ours = harden_labels(propagator.step(clip.features[t]), patch)
        theirs = harden_labels(soft[t], patch)
        wrong = ours != theirs
        best = stretch(soft[t], patch)[:, wrong].topk(2, dim=0).values
        different += int(wrong.sum())
        not_tied += int((best[0] - best[1] > TIE).sum())
        total += wrong.numel()
    return different, not_tied, total


def stretch(soft: Tensor, patch: int) -> Tensor:
    """Make what `harden_labels` takes the largest of: labels (K, h·p, w·p) at pixel size, each stretched to [0, 1]."""
    large = F.interpolate(soft[None], scale_factor=float(patch), mode="bilinear", align_corners=False)[0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low).clamp(min=1e-12)


def last_step(clip: Clip, way: str, window: Tensor | None = None) -> Callable[[], Tensor]:
    """Prepare the step to the last frame of a clip from all before it (labels are the first frame's)."""
    query, context = clip.features[-1], torch.stack(clip.features[:-1])
    labels = clip.labels.repeat(len(context), 1, 1, 1)
    if way == "ours":
        return partial(propagate_labels, query, context, labels, PROTOCOL)
    height, width = query.shape[1:]
    window = make_window(height, width, len(context)) if window is None else window
    return partial(propagate_densely, query, context, labels, window, rows=way == "rows")


def measure(clip: Clip, patch: int, num_pairs: int) -> list[str]:
    """One row of the table."""
    height, width = clip.features[0].shape[1:]
    window = make_window(height, width, len(clip.features) - 1)
    with torch.inference_mode():
        different, not_tied, total = compare_masks(clip, window, patch)
        ours, literal, rows = (last_step(clip, way, window) for way in ("ours", "literal", "rows"))
        latency = time_pairs(ours, literal, CPU, max_pairs=num_pairs, budget=40.0)
        careful = time_pairs(ours, rows, CPU, max_pairs=num_pairs, budget=15.0)
    del window, literal, rows
    peaks = [measure_peak(last_step, clip, way) for way in ("ours", "literal")]
    memory = "not measured"
    if peaks[0] is not None and peaks[1] is not None:
        memory = f"{peaks[0]:.0f} / {peaks[1]:.0f} MiB = 1/{peaks[1] / max(peaks[0], 1):.0f}"
    return [
        f"patch {patch}, {height}x{width} tokens, {len(clip.features) - 1} contexts",
        f"{1000 * latency.seconds:.0f} ms",
        f"{1000 * latency.reference_seconds:.0f} ms",
        speed_up(latency),
        f"{1 / careful.ratio:.1f}x",
        memory,
        f"{different} of {total}, {not_tied} of them no ties",
    ]


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="DAVIS folder; with --weights, features of real frames")
    parser.add_argument("--sequence", default="libby")
    parser.add_argument("--backbone", default="deit_tiny_patch16_224")
    parser.add_argument("--weights", type=Path, help="weights file of the backbone")
    parser.add_argument("--patches", type=int, nargs="+", default=(16, 8))
    parser.add_argument("--size", type=int, nargs=2, default=(480, 832), help="pixels that the token grids stand for")
    parser.add_argument("--frames", type=int, default=9, help="the last is propagated to, all others are context")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch, for both ways")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if (options.data is None) != (options.weights is None):
        parser.error("--data and --weights go together: features are those of real frames, or random")

    torch.set_num_threads(options.threads)
    rows = []
    for patch in options.patches:
        size = options.size[0] // patch, options.size[1] // patch
        if options.data is None:
            clip = smooth_clip(size, options.frames)
        else:
            clip = real_clip(
                options.data, options.sequence, options.backbone, options.weights, size, 16, options.frames
            )
        rows.append(measure(clip, patch, options.pairs))
    source = "smooth random fields" if options.data is None else f"{options.backbone} on frames of {options.sequence}"
    claim = f"""One step of label propagation against a literal implementation of the protocol (all pairs at once), on
the same features ({source}). Times and ratios are medians over pairs timed in turns. Memory is the peak of one step in
a fresh process beyond its inputs (the kernel's high-water mark). Masks are compared over {options.frames - 1} frames;
a pixel is a tie where its two best labels differ by less than {TIE:g}."""
    header = ["step", "ours", "literal", "faster", "than literal by rows", "memory, ours / literal", "pixels differing"]
    write_table(options.output, "label_propagation", claim, CPU, header, rows)


if __name__ == "__main__":
    main()
