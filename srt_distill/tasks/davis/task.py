"""DAVIS-2017 semi-supervised video object segmentation by label propagation.

Shape legend: T frames, H W pixels.

The first mask is carried from frame to frame along the similarity of features alone: no training, no head. The protocol
is DINO's (Caron et al., 2021, eval_video_segmentation), which the SRT paper follows (Section 4, Table 1); every number
of it is an option.
"""

import csv
import io
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from srt_distill.images import IMAGENET, Normalization, require_readable
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.davis.example import write_example
from srt_distill.tasks.davis.label_propagation import PropagationOptions
from srt_distill.tasks.davis.mask_files import write_mask
from srt_distill.tasks.davis.region_and_boundary import region_similarity
from srt_distill.tasks.davis.sequence_scores import SCORE_NAMES, Statistics, object_ids, pool, score_sequence
from srt_distill.tasks.davis.video_propagation import infer_patch, propagate_video
from srt_distill.tasks.davis.videos import (
    Video,
    list_sequences,
    network_size,
    open_videos,
    read_ahead,
    read_frame,
    read_mask,
    resize_frame,
)
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo
from srt_distill.visualization.overlays import overlay_mask

DINO = Normalization(IMAGENET.mean, (0.228, 0.224, 0.225))  # sic, DINO's script; ImageNet's own first value is 0.229
NUM_DRAWN_FRAMES = 3
TRUTH = "ground truth"


@dataclass(frozen=True)
class Davis(Task):
    """DAVIS-2017, or any videos in its layout with masks: J and F of propagated masks.

    Args:
        root: Folder with JPEGImages, Annotations and ImageSets.
        split: Name of the list under ImageSets/<year>.
        year: Which lists.
        sequences: Names to judge instead of the whole split, as '[blackswan, libby]'.
        num_frames: First frames of each sequence that are judged; null for all.
        scale: Factor on the short side of 480 pixels.
        size_multiple: What the long side is cut down to a multiple of (DINO's script: 64, whatever the patch).
        normalization: `model`, each candidate's own mean and std; or `dino`, for candidates of ImageNet's mean and std
            the constants of DINO's script (first std .228, sic), which published numbers were made with.
        propagation: How labels are carried from frame to frame.
        num_workers: Threads that read and resize frames.
    """

    root: Path
    split: str = "val"
    year: str = "2017"
    sequences: tuple[str, ...] | None = None
    num_frames: int | None = None
    scale: float = 1.0
    size_multiple: int = 64
    normalization: Literal["model", "dino"] = "model"
    propagation: PropagationOptions = field(default_factory=PropagationOptions)
    num_workers: int = 2

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        return TaskInfo(
            name="davis-2017",
            version="1",
            title="Video object segmentation by label propagation (DAVIS-2017)",
            item="video",
            scores=tuple(Score(name, higher_is_better="Decay" not in name) for name in SCORE_NAMES),
            source="DINO's protocol (Caron et al., 2021), as in Table 1 of the SRT paper; J and F of DAVIS-2017",
        )

    def settings(self) -> dict[str, Any]:
        """Give all that masks and scores depend on besides candidate and files."""
        names = ("scale", "size_multiple", "normalization", "num_frames")
        return {name: getattr(self, name) for name in names} | asdict(self.propagation)

    @cached_property
    def _videos(self) -> dict[str, Video]:
        if self.num_frames is not None and self.num_frames < 3:
            raise ValueError(
                f"num_frames {self.num_frames} leaves none to score: first and last do not count; use 3 or more"
            )
        names = list_sequences(self.root, self.split, self.year) if self.sequences is None else self.sequences
        videos = open_videos(self.root, names)
        shown = slice(self.num_frames)
        return {v.name: replace(v, frames=v.frames[shown], masks=v.masks[shown]) for v in videos}

    def items(self) -> Sequence[Item]:
        """Find and check the videos, all frames and masks; see `srt_distill.tasks.davis.videos.open_video`."""
        for video in self._videos.values():
            require_readable(video.frames)
            for _ in read_ahead(read_mask, video.masks, self.num_workers):
                pass
        return [Item(v.name, (*v.frames, *v.masks), len(v.frames)) for v in self._videos.values()]

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Find out the candidate's patch side, in pixels."""
        return {"patch": torch.tensor(infer_patch(candidate))}

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Carry the first mask through a video, write the masks, and score them.

        Masks are written in a thread beside the work. One that cannot be written ends the work at the next frame.
        """
        video, patch = self._videos[item.name], int(prepared["patch"])
        size = network_size(video.size, patch, self.scale, self.size_multiple)
        truth = np.stack(list(read_ahead(read_mask, video.masks, self.num_workers)))
        predicted = np.empty_like(truth)
        predicted[0] = np.where(np.isin(truth[0], object_ids(truth[0])), truth[0], 0)
        with ThreadPoolExecutor(1, thread_name_prefix="write") as thread:
            writing: deque[Future] = deque([thread.submit(write_mask, folder / video.masks[0].name, predicted[0])])
            images = self._read_images(video, size, writing)
            masks = propagate_video(self._seen(candidate), images, truth[0], patch, self.propagation)
            for index, mask in enumerate(masks, start=1):
                predicted[index] = mask
                writing.append(thread.submit(write_mask, folder / video.masks[index].name, mask))
            for future in writing:
                future.result()
        scores = score_sequence(truth, predicted)
        objects = [{"id": k, "J": asdict(j), "F": asdict(f)} for k, (j, f) in scores.items()]
        numbers = {"objects": objects, "num_frames": len(truth), "input_size": list(size)}
        return Outcome(numbers, tuple(path.name for path in video.masks))

    def _read_images(
        self, video: Video, size: tuple[int, int], writing: deque[Future]
    ) -> Iterator[UInt8[Tensor, "3 rows columns"]]:
        """Yield the frames in the network's size; end where a mask could not be written."""
        for image in read_ahead(lambda path: resize_frame(read_frame(path), size), video.frames, self.num_workers):
            while writing and writing[0].done():
                writing.popleft().result()
            yield image

    def _seen(self, candidate: Candidate) -> Candidate:
        """Put the candidate under the normalisation that was chosen."""
        if self.normalization == "dino" and candidate.normalization == IMAGENET:
            return replace(candidate, normalization=DINO)
        return candidate

    def pool(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Average over all objects of all videos, each object weighing the same: the official global scores."""
        return pool([pair for outcome in outcomes for pair in _objects(outcome).values()])

    def tables(self, outcomes: Mapping[str, Outcome]) -> dict[str, str]:
        """Write the two official tables, under the names and columns of davis2017-evaluation, three decimals."""
        scores = self.pool(list(outcomes.values()))
        by_object = [
            [f"{name}_{object_id}", f"{j.mean:.3f}", f"{f.mean:.3f}"]
            for name, outcome in outcomes.items()
            for object_id, (j, f) in _objects(outcome).items()
        ]
        rows = {
            f"global_results-{self.split}.csv": [list(SCORE_NAMES), [f"{scores[name]:.3f}" for name in SCORE_NAMES]],
            f"per-sequence_results-{self.split}.csv": [["Sequence", "J-Mean", "F-Mean"], *by_object],
        }
        return {name: _to_csv(lines) for name, lines in rows.items()}

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Show the middle frame of a video in the candidate's size."""
        video = self._videos[item.name]
        size = network_size(video.size, infer_patch(candidate), self.scale, self.size_multiple)
        return resize_frame(read_frame(video.frames[(len(video.frames) - 1) // 2]), size)[None]

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Draw masks over some frames, and J over all of them, averaged over the objects."""
        video = self._videos[item.name]
        shown = np.unique(np.linspace(0, len(video.frames) - 1, NUM_DRAWN_FRAMES + 1, dtype=int)[1:]).tolist()
        rows = []
        for index in shown:
            frame, name = read_frame(video.frames[index]), video.masks[index].name
            masks = {TRUTH: video.masks[index]} | {candidate: folders[candidate] / name for candidate in outcomes}
            pictures = {column: overlay_mask(frame, read_mask(path)) for column, path in masks.items()}
            rows.append((f"frame {index}", pictures))
        return Sheet(tuple(rows), frame_curves(video, folders), "J over the frames")

    @classmethod
    def example(cls, folder: Path) -> "Davis":
        """Make videos of five frames with two moving squares."""
        write_example(folder)
        return cls(folder, scale=64 / 480, size_multiple=16)


def _objects(outcome: Outcome) -> dict[int, tuple[Statistics, Statistics]]:
    return {entry["id"]: (Statistics(**entry["J"]), Statistics(**entry["F"])) for entry in outcome.numbers["objects"]}


def _to_csv(rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def frame_curves(video: Video, folders: Mapping[str, Path]) -> dict[str, list[float]]:
    """Score J of each frame from the masks on disk, averaged over the objects.

    Args:
        video: The sequence.
        folders: Where its masks lie, by candidate.

    Returns:
        By candidate one value per scored frame, from the second to the last but one.
    """
    ids = object_ids(read_mask(video.masks[0]))
    truth = np.stack([read_mask(path) for path in video.masks[1:-1]])
    curves = {}
    for name, folder in folders.items():
        predicted = np.stack([read_mask(folder / path.name) for path in video.masks[1:-1]])
        by_object = [region_similarity(truth == k, predicted == k) for k in ids]
        curves[name] = np.mean(by_object, axis=0).tolist()
    return curves
