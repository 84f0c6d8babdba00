"""What the DAVIS recipes share: common options, scores by method and sequence that are kept, tables and figures.

Shape legend: none, tensors stay inside the extractors.

results.jsonl gets one line a method and sequence as soon as it is scored; a line made under the same settings, weights
and files is found again instead of being computed.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from srt_distill.comparison.candidates import choose_device, choose_normalization
from srt_distill.comparison.compare import name_device
from srt_distill.comparison.rows import Method, plain
from srt_distill.files import replaced_file, write_file
from srt_distill.tasks.davis.result_files import DavisResult, SequenceResult, settings_digest
from srt_distill.tasks.davis.video_propagation import evaluate_video
from srt_distill.tasks.davis.videos import Video, list_sequences, open_videos

RESULTS = Path(__file__).resolve().parent / "results"
SHARED = Path("../shared/data")  # real data beside a development checkout
TABLE_1 = ("J&F-Mean", "J-Mean", "J-Recall", "F-Mean", "F-Recall")  # columns of the paper's Table 1
COLORS = ("#868e99", "#dd7a0b", "#2f86eb", "#2ba36e", "#a06cf0", "#dc4c83")


def make_parser(description: str | None, output: str) -> argparse.ArgumentParser:
    """A parser with the options that all DAVIS recipes have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="deit_tiny_patch16_224", help="timm name or local-dir:<folder>")
    parser.add_argument(
        "--weights",
        default=SHARED / "weights" / "deit_tiny_patch16_224.safetensors",
        help="weights file of a timm name; 'none' where the name says it all",
    )
    parser.add_argument("--data", type=Path, default=SHARED / "DAVIS", help="DAVIS folder")
    parser.add_argument("--split", default="val", help="name of the list under ImageSets/2017")
    parser.add_argument("--sequences", nargs="+", help="names to score instead of the whole split")
    parser.add_argument("--num_frames", type=int, help="first frames of each sequence to score; all by default")
    parser.add_argument("--scale", type=float, default=0.5, help="factor on the short side of 480 pixels")
    parser.add_argument("--size_multiple", type=int, default=32, help="what the long side is cut down to")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=RESULTS / output, help="folder of results.jsonl and README.md")
    return parser


class RowFile:
    """A results.jsonl whose rows are found again by a digest of all that they depend on.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        self._rows: dict[str, dict[str, Any]] = {row["digest"]: row for row in map(json.loads, lines)}

    def find(self, settings: dict[str, Any]) -> Any:
        """The finished result under these settings, or None."""
        row = self._rows.get(settings_digest(settings))
        return None if row is None else row["result"]

    def get(self, settings: dict[str, Any], caption: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> Any:
        """The result under these settings: from the file, or computed and appended.

        Args:
            settings: All that the result depends on, as plain data.
            caption: What a reader tells the row by.
            compute: Makes the result, as plain data.
        """
        digest = settings_digest(settings)
        if digest not in self._rows:
            self._rows[digest] = {**caption, "result": compute(), "digest": digest}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps(self._rows[digest]) + "\n")
            print(json.dumps(caption), flush=True)
        return self._rows[digest]["result"]


@dataclass(frozen=True)
class DavisRows:
    """Videos, the protocol, and the file of finished rows.

    Attributes:
        rows: Finished rows.
        videos: What is scored.
        mean: Per channel, what images are normalised with.
        std: Per channel.
        protocol: `scale` and `size_multiple`.
        device: Where to run.
    """

    rows: RowFile
    videos: tuple[Video, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    protocol: dict[str, Any]
    device: torch.device

    def score(self, method: Method) -> DavisResult:
        """Scores of a method on all videos, finished ones from the file."""
        return DavisResult({}, tuple(self._score(method, video) for video in self.videos))

    def score_anew(self, method: Method) -> DavisResult:
        """The same without looking at the file or adding to it."""
        return DavisResult({}, tuple(self._evaluate(method, video) for video in self.videos))

    def _evaluate(self, method: Method, video: Video) -> SequenceResult:
        return evaluate_video(
            method.extract,
            video,
            mean=self.mean,
            std=self.std,
            output_shifts=method.output_shifts,
            device=self.device,
            **self.protocol,
        )

    def _score(self, method: Method, video: Video) -> SequenceResult:
        settings = {
            "fingerprint": dict(method.fingerprint),
            "output_shifts": [list(shift) for shift in method.output_shifts],
            "mean": list(self.mean),
            "std": list(self.std),
            "files": video.digest(),
            **self.protocol,
        }
        caption = {"method": method.name, "sequence": video.name, "num_frames": len(video.frames), **self.protocol}
        return SequenceResult.from_dict(self.rows.get(settings, caption, lambda: asdict(self._evaluate(method, video))))


def open_rows(options: argparse.Namespace, model: nn.Module) -> DavisRows:
    """What `make_parser`'s options name, for features of a model."""
    names = options.sequences or list_sequences(options.data, options.split)
    videos = tuple(cut(video, options.num_frames) for video in open_videos(options.data, names))
    mean, std = choose_normalization(model, "auto")
    protocol = {"scale": options.scale, "size_multiple": options.size_multiple}
    rows = RowFile(options.output / "results.jsonl")
    return DavisRows(rows, videos, mean, std, protocol, choose_device(options.device))


def cut(video: Video, num_frames: int | None) -> Video:
    """The first frames of a video; at least three, since first and last are not scored."""
    if num_frames is None:
        return video
    if num_frames < 3:
        raise ValueError(f"{num_frames} frames leave none to score: first and last do not count; use 3 or more")
    return replace(video, frames=video.frames[:num_frames], masks=video.masks[:num_frames])


def weights_file(options: argparse.Namespace) -> str | None:
    """The weights option, or None for 'none'."""
    return None if str(options.weights) == "none" else str(options.weights)


def describe_settings(options: argparse.Namespace, rows: DavisRows) -> str:
    """One line of what a table's numbers were made with."""
    videos = ", ".join(f"{video.name} ({len(video.frames)})" for video in rows.videos)
    return (
        f"{Path(options.backbone).name}; {videos}; scale {options.scale}, sides multiples of {options.size_multiple}; "
        f"{name_device(rows.device)}, torch {torch.__version__}"
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column to the left, all others to the right."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, ruler, *rows))


def count_better(result: DavisResult, reference: DavisResult) -> str:
    """On how many sequences a result's J&F is above the reference's, such as "3 of 4"."""
    pairs = zip(result.sequences, reference.sequences, strict=True)
    better = sum(ours.scores["J&F-Mean"] > theirs.scores["J&F-Mean"] for ours, theirs in pairs)
    return f"{better} of {len(result.sequences)}"


def spread(values: Iterable[float | None], digits: int = 3) -> str:
    """Mean ± standard deviation over seeds; a dash where there is nothing."""
    known = [value for value in values if value is not None]
    if not known:
        return "\N{EN DASH}"
    deviation = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return plain(round(statistics.fmean(known), digits)) + deviation


def make_axes(width: float = 6.0, height: float = 3.4) -> tuple[Figure, Axes]:
    """Plain axes for a figure of a recipe."""
    figure = Figure((width, height), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def write_page(output: Path, page: str, figure: Figure) -> None:
    """Write README.md and figure.png, and print the page."""
    with replaced_file(output / "figure.png") as temporary:
        figure.savefig(temporary)
    write_file(output / "README.md", page)
    print(page)
