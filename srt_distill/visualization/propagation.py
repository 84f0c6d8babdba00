"""Propagated masks over a video: a sheet of frames, and the whole of it as MP4 and GIF.

Shape legend: T frames, H W pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from srt_distill.visualization.gallery import write_animation
from srt_distill.visualization.overlays import overlay_mask
from srt_distill.visualization.panels import Picture, panel_grid
from srt_distill.visualization.writers import write_picture


def visualize_propagation(
    frames: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    masks: Mapping[str, Sequence[UInt8[np.ndarray, "_ _"]]],
    output: Path,
    *,
    num_shown: int = 5,
    frames_per_second: float = 12.5,
) -> list[Path]:
    """Draws the masks of several methods side by side over the frames of a video.

    Args:
        frames: RGB frames of one size.
        masks: object ids of every frame by the caption above the column, such as "ground truth" and "student".
        output: destination without an ending: a sheet `.png`, and the video as `.mp4` and `.gif`.
        num_shown: evenly spaced frames in the sheet, the first and the last among them.
        frames_per_second: speed of the videos.

    Returns:
        The three files.

    Raises:
        ValueError: If there is no frame or method, or a method has another number of masks.
    """
    if not len(frames) or not masks:
        raise ValueError(f"{len(frames)} frames and {len(masks)} methods given; at least one of each is needed")
    for name, sequence in masks.items():
        if len(sequence) != len(frames):
            raise ValueError(f"{name} has {len(sequence)} masks for {len(frames)} frames; give one a frame")

    def overlays(index: int) -> list[Picture]:
        return [overlay_mask(frames[index], sequence[index]) for sequence in masks.values()]

    shown = np.unique(np.linspace(0, len(frames) - 1, num_shown, dtype=int)).tolist()
    sheet = output.with_name(f"{output.name}.png")
    write_picture(sheet, panel_grid([overlays(i) for i in shown], list(masks), [f"frame {i}" for i in shown]))
    animated: Iterator[Picture] = (panel_grid([overlays(i)], list(masks)) for i in range(len(frames)))
    return [sheet, *write_animation(output, animated, frames_per_second)]
