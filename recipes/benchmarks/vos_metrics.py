"""J and F against the official definition taken straight: time, and equality to the bit.

Claim:    at least 12 times faster in one process, every number equal to the bit; 30 sequences scored in seconds
Source:   davis2017-evaluation; the baseline is written from the definition: frame by frame, object by object, on the
          full frame, outlines by comparing neighbours, both dilated by a disk of 0.8% of the diagonal. The official
          script dilates with OpenCV, which is no dependency here; of the ways at hand, scipy's distance transform is
          the baseline, scipy's `binary_dilation` takes longer, and a convolution by torch is the quickest: its row
          says what is left against an implementation that a straight reader would hardly write.
Command:  python recipes/benchmarks/vos_metrics.py --data DAVIS --masks FOLDER_OF_MASKS
Takes:    about 2 minutes on 2 CPU cores; without --data and --masks on synthetic masks

Real masks are those of a public method on 4 DAVIS sequences; they are repeated to make up 30.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measuring import RESULTS, seconds, speed_up, write_table
from scipy.ndimage import binary_dilation, distance_transform_edt

from srt_distill.latency import time_pairs
from srt_distill.tasks.davis.mask_files import score_masks
from srt_distill.tasks.davis.region_and_boundary import boundary_tolerance
from srt_distill.tasks.davis.sequence_scores import object_ids, score_frames, score_sequence
from srt_distill.tasks.davis.videos import list_sequences, open_videos, read_mask

CPU = torch.device("cpu")
Dilation = Callable[[np.ndarray, int], np.ndarray]


class Pair(NamedTuple):
    """Ids (T, H, W) of one sequence: the ground truth, and the masks to judge."""

    target: np.ndarray
    predicted: np.ndarray


def real_pairs(data: Path, masks: Path) -> list[Pair]:
    """Make the val sequences; a frame without a mask (the first and last may lack one) is empty."""
    pairs = []
    for video in open_videos(data, list_sequences(data)):
        target = np.stack([read_mask(path) for path in video.masks])
        files = [masks / video.name / path.name for path in video.masks]
        predicted = [read_mask(f) if f.is_file() else np.zeros(video.size, np.uint8) for f in files]
        pairs.append(Pair(target, np.stack(predicted)))
    return pairs


def synthetic_pairs(num_frames: int, size: tuple[int, int] = (480, 854)) -> list[Pair]:
    """Wavy ellipses that move, 1 to 4 of them a sequence; predictions lag behind and wave otherwise."""
    row, column = np.mgrid[: size[0], : size[1]]

    def draw(k: int, t: float, waves: int) -> np.ndarray:
        y = size[0] * (0.3 + 0.4 * (k // 2)) * (1 + 0.2 * np.sin(0.1 * t + k))
        x = size[1] * (0.25 + 0.5 * (k % 2)) * (1 + 0.2 * np.cos(0.07 * t + k))
        angle = np.arctan2(row - y, column - x)
        radius = np.hypot((row - y) / (0.15 * size[0]), (column - x) / (0.13 * size[1]))
        return radius < 1 + 0.12 * np.sin(waves * angle + 0.05 * t)

    pairs = []
    for num_objects in (1, 2, 3, 4):
        target, predicted = np.zeros((2, num_frames, *size), dtype=np.uint8)
        for t in range(num_frames):
            for k in range(num_objects):
                target[t][draw(k, t, 7)] = k + 1
                predicted[t][draw(k, t - 2, 9)] = k + 1
        pairs.append(Pair(target, predicted))
    return pairs


def find_outline(mask: np.ndarray) -> np.ndarray:
    """Pixels (H, W) that differ from the right, lower or lower right one; the far edges as officially."""
    right, lower, diagonal = mask.copy(), mask.copy(), mask.copy()
    right[:, :-1], lower[:-1], diagonal[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    outline = (mask ^ right) | (mask ^ lower) | (mask ^ diagonal)
    outline[-1] = mask[-1] ^ right[-1]
    outline[:, -1] = mask[:, -1] ^ lower[:, -1]
    outline[-1, -1] = False
    return outline


def dilate_by_distance(outline: np.ndarray, radius: int) -> np.ndarray:
    """Pixels (H, W) at most `radius` from the outline."""
    if not outline.any():
        return outline
    distance = distance_transform_edt(~outline)
    return np.asarray(distance) <= radius


def dilate_by_disk(outline: np.ndarray, radius: int) -> np.ndarray:
    """Do the same by scipy's dilation with a disk."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return binary_dilation(outline, y**2 + x**2 <= radius**2)


def dilate_by_convolution(outline: np.ndarray, radius: int) -> np.ndarray:
    """Do the same by counting outline pixels under the disk, in torch."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = torch.from_numpy((y**2 + x**2 <= radius**2).astype(np.float32))
    count = torch.nn.functional.conv2d(torch.from_numpy(outline)[None, None].float(), disk[None, None], padding=radius)
    return (count[0, 0] > 0.5).numpy()


def score_straight(target: np.ndarray, predicted: np.ndarray, dilate: Dilation) -> tuple[float, float]:
    """J and F of one object in one frame (H, W), as defined."""
    either = np.count_nonzero(target | predicted)
    j = 1.0 if either == 0 else np.count_nonzero(target & predicted) / either
    radius = boundary_tolerance(*target.shape)
    outlines = find_outline(target), find_outline(predicted)
    near_target, near_predicted = (dilate(outline, radius) for outline in outlines)
    num_target, num_predicted = (np.count_nonzero(outline) for outline in outlines)
    if num_target == 0 or num_predicted == 0:
        return j, float(num_target == num_predicted)
    precision = np.count_nonzero(outlines[1] & near_target) / num_predicted
    recall = np.count_nonzero(outlines[0] & near_predicted) / num_target
    return j, 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def all_straight(pairs: list[Pair], dilate: Dilation = dilate_by_distance) -> list[tuple[list[float], list[float]]]:
    """J and F (object by object, frame by frame) of some sequences."""
    scores = []
    for target, predicted in pairs:
        for k in object_ids(target[0]):
            values = [score_straight(*masks, dilate) for masks in zip(target == k, predicted == k, strict=True)]
            scores.append(([j for j, _ in values], [f for _, f in values]))
    return scores


def all_ours(pairs: list[Pair]) -> list[tuple[list[float], list[float]]]:
    """Compute the same numbers with the package."""
    scores = []
    for target, predicted in pairs:
        j, f = score_frames(target, predicted, object_ids(target[0]))
        scores += [(j[k].tolist(), f[k].tolist()) for k in range(len(j))]
    return scores


def flatten(scores: list[tuple[list[float], list[float]]]) -> list[float]:
    """All numbers in one list."""
    return [value for pair in scores for values in pair for value in values]


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="DAVIS folder; with --masks, real sequences")
    parser.add_argument("--masks", type=Path, help="folder of predicted masks of its val sequences")
    parser.add_argument("--frames", type=int, default=10, help="frames of each sequence that are timed and compared")
    parser.add_argument("--sequences", type=int, default=30, help="sequences to score, repeated from the few there are")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if (options.data is None) != (options.masks is None):
        parser.error("--data and --masks go together: sequences are real, or synthetic")

    pairs = synthetic_pairs(options.frames) if options.data is None else real_pairs(options.data, options.masks)
    # evenly spaced frames from the second to the last but one; the first mask says how many objects there are
    chosen = [np.linspace(1, len(pair.target) - 2, options.frames).round().astype(int) for pair in pairs]
    some = [Pair(p.target[c], p.predicted[c]) for p, c in zip(pairs, chosen, strict=True)]
    by_convolution = partial(all_straight, some, dilate_by_convolution)
    latency = time_pairs(
        partial(all_ours, some), partial(all_straight, some), CPU, max_pairs=options.pairs, budget=60.0
    )
    hardest = time_pairs(partial(all_ours, some), by_convolution, CPU, max_pairs=options.pairs, budget=20.0)
    ours, straight = flatten(all_ours(some)), flatten(all_straight(some))
    num_equal = sum(a == b == c for a, b, c in zip(ours, straight, flatten(by_convolution()), strict=True))
    outline = find_outline(some[0].target[0] == 1)
    dilations = [
        1000 * seconds(partial(dilate, outline, boundary_tolerance(*outline.shape)))
        for dilate in (dilate_by_distance, dilate_by_disk, dilate_by_convolution)
    ]

    repeated = [pairs[i % len(pairs)] for i in range(options.sequences)]
    scoring = seconds(lambda: [score_sequence(*pair) for pair in repeated])
    num_frames = sum(len(pair.target) for pair in repeated)
    rows = [
        ["ours, one object in one frame", f"{2000 * latency.seconds / len(ours):.2f} ms"],
        ["official definition, one object in one frame", f"{2000 * latency.reference_seconds / len(ours):.1f} ms"],
        ["**faster**", f"**{speed_up(latency)}**"],
        ["faster than the same with dilation by convolution", speed_up(hardest)],
        ["one dilation: by distance (baseline), disk, convolution", ", ".join(f"{d:.0f} ms" for d in dilations)],
        ["scores equal to the bit, ours and both of these", f"{num_equal} of {len(ours)}"],
        [f"{len(repeated)} sequences ({num_frames} frames), masks in memory, one process", f"{scoring:.1f} s"],
    ]
    if options.data is not None:
        score = partial(score_masks, options.masks, options.data)
        times = [seconds(score), seconds(partial(score, num_processes=2))]
        what = f"{len(pairs)} sequences from PNG files to scores, one process; two, their start included"
        rows.append([what, f"{times[0]:.1f} s; {times[1]:.1f} s"])
    kind = "synthetic" if options.data is None else "real, masks of a public method"
    size = "{}x{}".format(*pairs[0].target.shape[1:])
    claim = f"""J and F of every object in every frame against the official definition taken straight: full-frame
outlines, both dilated by a disk. {len(some)} sequences ({kind}) of {size} pixels, {options.frames} frames each, one
process, medians over pairs timed in turns."""
    write_table(options.output, "vos_metrics", claim, CPU, ["what", "measured"], rows)


if __name__ == "__main__":
    main()
