"""What both segmentation tasks share: data, windows, predictions on the image, scores and pictures.

Shape legend: C channels, K classes, H W pixels, h w tokens.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from srt_distill.ensemble.shifts import unshift_tokens
from srt_distill.files import write_file
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.canvas import Padding, Placement, find_patch, pad_to_patch, read_bytes, shrunk_size
from srt_distill.tasks.heads import spread_evenly
from srt_distill.tasks.segmentation.labels import VOID, resize_labels
from srt_distill.tasks.segmentation.layouts import LabelledImage, Layout, SegmentationData, open_data
from srt_distill.tasks.segmentation.scores import class_ious, count_areas, pool_areas
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, digest_files
from srt_distill.visualization.overlays import NUM_COLORS, object_palette, overlay_mask

LABEL_FILE = "labels.png"
SCORES = (Score("mIoU"), Score("aAcc"), Score("mAcc"))


@dataclass(frozen=True)
class SegmentationTask(Task):
    """Labelled images, and classes predicted from the candidate's chosen features.

    Args:
        root: Folder with the data.
        layout: How they lie in it: lists (CamVid), folders, ade20k, or instances (nuclei).
        short_side: Pixels that an image's short side is brought to; none leaves images as they are.
        window: Side of the windows that an image is cut into, in pixels; none looks at whole images.
        stride: From window to window, in pixels.
        padding: What becomes of outputs where images were padded to whole patches.
        num_train: Training images, evenly spread over the split; none for all.
    """

    root: Path
    layout: Layout = "auto"
    short_side: int | None = None
    window: int | None = None
    stride: int = 341
    padding: Padding = "stretch"
    num_train: int | None = None

    def __post_init__(self) -> None:
        if self.window is not None and not 0 < self.stride <= self.window:
            raise ValueError(
                f"stride {self.stride} leaves gaps between windows of {self.window} pixels; make it smaller"
            )

    @property
    @abstractmethod
    def num_seeds(self) -> int:
        """Classifiers that differ in nothing but their seed, 0, 1, …; each judges every image."""

    @abstractmethod
    def classify(self, prepared: Mapping[str, Tensor], seed: int, features: Float[Tensor, "1 C h w"]) -> Tensor:
        """Give scores of the classes (1, K, h, w) of a map."""

    def items(self) -> Sequence[Item]:
        """List an item per test image and seed, all labels of both splits checked.

        Raises:
            FileNotFoundError: If the layout is not to be seen, or a file is missing.
            ValueError: If sizes differ, a label value is unknown, or a tested class is nowhere in training.
        """
        data = self.open()
        data.check()
        seeds = range(self.num_seeds)
        return [
            Item(f"{pair.name} seed {seed}", (pair.image, pair.labels), 1, seed) for pair in data.test for seed in seeds
        ]

    def settings(self) -> dict[str, Any]:
        """Give the options, the classes, and a digest of the training split."""
        data = self.open()
        files = [path for pair in self.training_pairs(data) for path in (pair.image, pair.labels)]
        options = {name: value for name, value in asdict(self).items() if name != "root"}
        return {**options, "classes": list(data.rule.classes), "training_files": digest_files(files)}

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Predict the class of every pixel and count areas; writes the predicted classes as a palette PNG."""
        rule = self.open().rule
        truth = rule.read(item.files[1])
        predicted = self._predict(candidate, prepared, item.seed, item.files[0], (truth.shape[0], truth.shape[1]))
        write_file(folder / LABEL_FILE, _encode(predicted, len(rule.classes)))
        return Outcome(dict(count_areas(predicted, truth, len(rule.classes))), (LABEL_FILE,))

    def pool(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Give the scores of summed areas."""
        return pool_areas([outcome.numbers for outcome in outcomes])

    def tables(self, outcomes: Mapping[str, Outcome]) -> dict[str, str]:
        """Write the IoU of each class."""
        ious = class_ious([outcome.numbers for outcome in outcomes.values()])
        rows = (f"{name},{value:.4f}" for name, value in zip(self.open().rule.classes, ious, strict=True))
        return {"per-class_iou.csv": "\n".join(("Class,IoU", *rows)) + "\n"}

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Give the image, or its first window, as the candidate sees it."""
        return next(self.windows(candidate, item.files[0], self.patch(candidate)))[0]

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Image, truth and predictions in the classes' colours; below, what each has wrong in red."""
        photograph = read_bytes(item.files[0])[0].permute(1, 2, 0).numpy()
        truth = self.open().rule.read(item.files[1])
        predicted = {}
        for name in outcomes:
            with Image.open(folders[name] / LABEL_FILE) as image:
                predicted[name] = np.asarray(image).astype(np.int64)
        classes = {"image": photograph, "ground truth": _tint(photograph, truth)}
        classes |= {name: _tint(photograph, labels) for name, labels in predicted.items()}
        wrong = {}
        for name, labels in predicted.items():
            picture = np.repeat(photograph.mean(2, keepdims=True), 3, 2).astype(np.uint8)
            picture[(labels != truth) & (truth != VOID)] = (214, 40, 40)
            wrong[name] = picture
        return Sheet((("classes", classes), ("wrong pixels", wrong)))

    def open(self) -> SegmentationData:
        """Find the data."""
        return open_data(self.root, self.layout)

    def training_pairs(self, data: SegmentationData) -> Sequence[LabelledImage]:
        """Choose the training images that are used."""
        return spread_evenly(data.train, self.num_train)

    def patch(self, candidate: Candidate) -> int:
        """Find what image sides must be multiples of."""
        return find_patch(candidate, candidate.maps)

    def windows(
        self, candidate: Candidate, image: Path, patch: int
    ) -> Iterator[tuple[UInt8[Tensor, "1 3 H W"], Placement, tuple[slice, slice]]]:
        """Cut an image into windows, each padded to whole patches; without windows, give the whole image.

        Yields:
            A canvas, the window's place in it, and the window's rows and columns in the resized image.
        """
        pixels = read_bytes(image, self.short_side)
        for rows in window_slices(pixels.shape[-2], self.window, self.stride):
            for columns in window_slices(pixels.shape[-1], self.window, self.stride):
                view = pixels[..., rows, columns].contiguous()
                yield *pad_to_patch(view, patch, candidate.normalization, self.padding), (rows, columns)

    def samples(self, candidate: Candidate, patch: int) -> Iterator[tuple[Tensor, Int[np.ndarray, "_H _W"], Placement]]:
        """Give map, labels and placement of every training image, or of every window of it.

        Labels of whole images keep their size, whatever the image was resized to; those of windows are resized with it.
        """
        data = self.open()
        for pair in self.training_pairs(data):
            labels = data.rule.read(pair.labels)
            if self.window is not None:
                pixels = read_bytes(pair.image, self.short_side)
                labels = resize_labels(labels, (pixels.shape[-2], pixels.shape[-1]))
            for canvas, placement, (rows, columns) in self.windows(candidate, pair.image, patch):
                yield candidate.maps(canvas)[-1], labels if self.window is None else labels[rows, columns], placement

    def _predict(
        self, candidate: Candidate, prepared: Mapping[str, Tensor], seed: int, image: Path, size: tuple[int, int]
    ) -> Int[np.ndarray, "H W"]:
        """Classes at a size: scores of overlapping windows are averaged, brought to the size, and the largest wins."""
        views = self.windows(candidate, image, int(prepared["patch"]))
        if self.window is None:
            canvas, placement, _ = next(views)
            scores = self._classify_views(candidate, prepared, seed, canvas)
            return placement.onto(scores, size)[0].argmax(0).numpy()
        height, width = shrunk_size(size, self.short_side)
        total, counts = torch.zeros(1, len(self.open().rule.classes), height, width), torch.zeros(height, width)
        for canvas, placement, (rows, columns) in views:
            scores = self._classify_views(candidate, prepared, seed, canvas)
            window = rows.stop - rows.start, columns.stop - columns.start
            total[..., rows, columns] += placement.onto(scores, window)
            counts[rows, columns] += 1
        return Placement((height, width)).onto(total / counts, size)[0].argmax(0).numpy()

    def _classify_views(
        self, candidate: Candidate, prepared: Mapping[str, Tensor], seed: int, canvas: UInt8[Tensor, "1 3 H W"]
    ) -> Float[Tensor, "1 K _h _w"]:
        """Scores of a canvas; under output shifts the mean of those of every view, each moved back."""
        shifts = candidate.output_shifts
        maps = candidate.maps(canvas)[-len(shifts) :]
        with torch.inference_mode():
            views = [self.classify(prepared, seed, features.float()) for features in maps]
            patch = canvas.shape[-1] // views[0].shape[-1]
            moved = [unshift_tokens(view, shift, patch) for view, shift in zip(views, shifts, strict=True)]
            return torch.stack(moved).mean(0).cpu()


def window_slices(length: int, window: int | None, stride: int) -> list[slice]:
    """Cut a length into windows a stride apart, the last one pushed inside (mmsegmentation's slide inference)."""
    if window is None or window >= length:
        return [slice(0, length)]
    number = -(-(length - window) // stride) + 1
    starts = [min(index * stride, length - window) for index in range(number)]
    return [slice(start, start + window) for start in starts]


def _encode(labels: Int[np.ndarray, "H W"], num_classes: int) -> bytes:
    """Classes as a PNG: a palette's indices, or 16-bit grey if a palette is too small."""
    encoded = BytesIO()
    if num_classes <= NUM_COLORS:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(object_palette().reshape(-1).tolist())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    image.save(encoded, "PNG")
    return encoded.getvalue()


def _tint(photograph: UInt8[np.ndarray, "H W 3"], labels: Int[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Classes over the image in colours 1, 2, …; void is left as it is."""
    ids = np.where(labels == VOID, 0, labels % (NUM_COLORS - 1) + 1).astype(np.uint8)
    return overlay_mask(photograph, ids, opacity=0.6, outline_width=0)
