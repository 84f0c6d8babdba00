"""`srt-distill overlay`: propagated masks over their videos, side by side.

Shape legend: H W pixels.
"""

from collections.abc import Sequence
from pathlib import Path

from srt_distill.commands.parsing import CommandParser
from srt_distill.tasks.davis.videos import find_frames, list_sequences, open_video, read_frame, read_mask
from srt_distill.visualization import visualize_propagation

TRUTH = "ground truth"


def overlay(
    davis: Path,
    masks: dict[str, Path] | Path,
    output: Path,
    split: str = "val",
    year: str = "2017",
    sequences: list[str] | None = None,
    ground_truth: bool = True,
    num_shown: int = 5,
    frames_per_second: float = 12.5,
) -> list[Path]:
    """Draw masks that `evaluate` or `compare` wrote over their videos: a sheet of frames, an MP4 and a GIF per video.

    Args:
        davis: DAVIS folder with JPEGImages, Annotations (for the ground truth) and ImageSets.
        masks: Folders of masks by the caption above their column, as '{teacher: scores/teacher, student: scores/mine}':
            outputs of `evaluate`, or the candidates' folders in an output of `compare`. One folder is captioned by its
            name.
        output: Folder for the pictures.
        split: Name of the list under ImageSets/<year>.
        year: Which lists.
        sequences: Names to draw instead of the whole split, as '[a, b]'.
        ground_truth: Draw the ground truth as the first column.
        num_shown: Frames in the sheet, evenly spaced.
        frames_per_second: Speed of the videos.
    """
    names = list_sequences(davis, split, year) if sequences is None else sequences
    folders = {masks.name: masks} if isinstance(masks, Path) else masks
    frames = {name: find_frames(davis, name) for name in names}
    files = {
        name: {caption: [folder / name / f"{path.stem}.png" for path in paths] for caption, folder in folders.items()}
        for name, paths in frames.items()
    }
    wanted = [path for columns in files.values() for paths in columns.values() for path in paths]
    if missing := [path for path in wanted if not path.is_file()]:
        raise FileNotFoundError(
            f"{len(missing)} masks are missing, the first is {missing[0]}; name the output folders of "
            "`srt-distill evaluate`, or with --sequences only what was evaluated"
        )
    if ground_truth:
        files = {name: {TRUTH: list(open_video(davis, name).masks), **columns} for name, columns in files.items()}
    written: list[Path] = []
    for name, columns in files.items():
        pictures = {caption: [read_mask(path) for path in paths] for caption, paths in columns.items()}
        written += visualize_propagation(
            [read_frame(path) for path in frames[name]],
            pictures,
            output / name,
            num_shown=num_shown,
            frames_per_second=frames_per_second,
        )
    for path in written:
        print(path.as_posix().encode("utf-8", "backslashreplace").decode())
    return written


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and draw."""
    overlay(**CommandParser("overlay", overlay).read(arguments))
