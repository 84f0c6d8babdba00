"""`srt-distill overlay`: propagated masks over their videos, methods side by side.

Shape legend: H W pixels.
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import auto_cli

from srt_distill.tasks.davis.videos import list_sequences, open_videos, read_frame, read_mask
from srt_distill.visualization import visualize_propagation

TRUTH = "ground truth"


def overlay(
    data: Path,
    masks: dict[str, Path],
    output: Path,
    split: str = "val",
    year: str = "2017",
    sequences: list[str] | None = None,
    ground_truth: bool = True,
    num_shown: int = 5,
    frames_per_second: float = 12.5,
) -> None:
    """Draw masks that `evaluate` or `compare` wrote over their videos: a sheet of frames, an MP4 and a GIF a sequence.

    Args:
        data: DAVIS folder with JPEGImages, Annotations and ImageSets.
        masks: Folders of masks by the caption above their column, as '{teacher: scores/teacher, student: scores/mine}':
            outputs of `evaluate`, or the methods' folders in an output of `compare`.
        output: Folder for the pictures.
        split: Name of the list under ImageSets/<year>.
        year: Which lists.
        sequences: Names to draw instead of the whole split, as '[a, b]'.
        ground_truth: Draw the ground truth as the first column.
        num_shown: Frames in the sheet, evenly spaced.
        frames_per_second: Speed of the videos.
    """
    videos = open_videos(data, list_sequences(data, split, year) if sequences is None else sequences)
    wanted = [folder / video.name / path.name for video in videos for folder in masks.values() for path in video.masks]
    if missing := [path for path in wanted if not path.is_file()]:
        raise FileNotFoundError(
            f"{len(missing)} masks are missing, the first is {missing[0]}; name the output folders of "
            "`srt-distill evaluate`, or with --sequences only what was evaluated"
        )
    for video in videos:
        folders = {name: folder / video.name for name, folder in masks.items()}
        columns = {name: [read_mask(folder / path.name) for path in video.masks] for name, folder in folders.items()}
        if ground_truth:
            columns = {TRUTH: [read_mask(path) for path in video.masks], **columns}
        frames = [read_frame(path) for path in video.frames]
        written = visualize_propagation(
            frames, columns, output / video.name, num_shown=num_shown, frames_per_second=frames_per_second
        )
        for path in written:
            print(path)


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and draw."""
    auto_cli(overlay, args=list(arguments), as_positional=False, prog="srt-distill overlay")
