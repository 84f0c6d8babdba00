"""Unlabeled images as a LightningDataModule: a source in, batches of crops out.

Shape legend: B images, K channels, H W pixels of the crop, m margin in pixels, p patch side in pixels.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Int64
from pytorch_lightning import LightningDataModule, Trainer

from srt_distill.data.crops import Draw, HeldOutCrops, TrainingCrops, find_first_readable
from srt_distill.data.loading import CropLoader, EpochSampler
from srt_distill.data.source import ImageSource
from srt_distill.data.splitting import RUN_LENGTH, count_held_out, split_indices
from srt_distill.data.streaming import ImageStream, StreamSampler, split_off_first


@dataclass(frozen=True)
class CropSettings:
    """What decides which training crops there are.

    Attributes:
        images: SHA-256 over the names of the training images, in order.
        crop_size: (height, width) in pixels, without the margin.
        scale: Resize factor before cropping.
        flip: Whether half of the crops are mirrored.
        views: Fixed crops per image, or None where they differ in each epoch.
        seed: Of the crops.
    """

    images: str
    crop_size: tuple[int, int]
    scale: float
    flip: bool
    views: int | None
    seed: int


class UnlabeledImages(LightningDataModule):
    """Batches of uint8 crops (B, 3, H + 2m, W + 2m) with a margin of real pixels, for training and for measuring.

    Of a source with other channels there are as many; bands that are not bytes are float32, of 0 to 255 all the same.

    Training crops are random, and different in each epoch unless `views` limits them; held-out crops are centred. Every
    crop is a function of (seed, epoch, image): neither the number of loader processes nor a resumed run changes it.

    An image that cannot be read is named in a warning once, counted in `num_unreadable`, and replaced by another.

    Args:
        source: where the images come from.
        crop_size: side of the crop in pixels, or (height, width); without the margin.
        margin: real pixels kept on each side, at least the shift radius.
        scale: resize factor before cropping: 0.5 halves the sides. An image too small for crop and margin is resized by
            the smallest larger factor at which it fits.
        batch_size: images per batch and process.
        num_workers: loader processes; 0 loads in the main one.
        held_out: what is kept out of training to measure on: a share in [0, 1), or a number of images. Evenly spaced
            runs of neighbours, so that near-identical frames of a video do not end up on both sides; of a stream, the
            first images.
        flip: whether half of the training crops are mirrored left to right.
        patch: patch side of the backbone in pixels; the crop must be a multiple of it.
        seed: of crops and order, not negative.
        views: how many fixed crops an image has, shown in turn, so that their targets can be cached;
            null for new crops in every epoch.

    Raises:
        ValueError: If the crop is not a multiple of the patch side, or a size, factor or seed is out of its range.
    """

    def __init__(
        self,
        source: ImageSource,
        crop_size: int | tuple[int, int] = 224,
        margin: int = 3,
        scale: float = 1.0,
        batch_size: int = 16,
        num_workers: int = 2,
        held_out: int | float = 0.05,
        flip: bool = True,
        patch: int = 16,
        seed: int = 0,
        views: int | None = None,
    ) -> None:
        super().__init__()
        height, width = (crop_size, crop_size) if isinstance(crop_size, int) else crop_size
        for name, side in (("height", height), ("width", width)):
            if side < 1 or side % patch:
                below = max(patch, side // patch * patch)
                raise ValueError(
                    f"crop {name} {side} is not a multiple of patch side {patch}; "
                    f"use {below} or {below + patch}, or set patch to the backbone's"
                )
        for name, value, least in (("margin", margin, 0), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name}={value} must be at least {least}")
        if views is not None and views < 1:
            raise ValueError(f"views={views} must be at least 1, or null for new crops in every epoch")
        if scale <= 0:
            raise ValueError(f"scale={scale} must be above 0; 1 keeps the size, 0.5 halves the sides")
        self.source = source
        self.crop_size = (height, width)
        self.window = (height + 2 * margin, width + 2 * margin)
        self.scale = scale
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.held_out = held_out
        self.flip = flip
        self.seed = seed
        self.views = views
        self._unreadable: set[str] = set()

    @property
    def num_unreadable(self) -> int:
        """How many different images could not be read so far, in this process."""
        return len(self._unreadable)

    def setup(self, stage: str) -> None:
        """Split the source, and make sure that each part has an image that can be read, without reading them all.

        Where no held-out image can be read, the readable ones nearest to them are held out instead, and not trained on;
        where there are none to spare, nothing is held out. A warning says so.

        Raises:
            ValueError: If nothing would be left for training.
            OSError: If no image of the training part can be read.
        """
        split = split_off_first if isinstance(self.source, ImageStream) else split_indices
        training, held_out = split(len(self.source), count_held_out(len(self.source), self.held_out))
        self._find_readable(training)
        if len(held_out):
            try:
                self._find_readable(held_out)
            except OSError as error:
                training, held_out = self._replace_held_out(training, held_out, str(error))
        height, width = self.window
        self._training = TrainingCrops(
            self.source, training, height, width, self.scale, self.flip, self.seed, self.views
        )
        self._held_out = HeldOutCrops(self.source, held_out, height, width, self.scale)

    @property
    def crop_settings(self) -> CropSettings:
        """What decides which training crops there are, known after `setup`."""
        digest = hashlib.sha256()
        for index in map(int, self._training.indices):
            digest.update(os.fsencode(f"{self.source.name(index)}\n"))
        return CropSettings(digest.hexdigest(), self.crop_size, self.scale, self.flip, self.views, self.seed)

    @property
    def num_fixed_crops(self) -> int:
        """How many different training crops there are, known after `setup`.

        Raises:
            ValueError: If there is no end of them.
        """
        if self.views is None:
            raise ValueError(
                "data.views is null: every epoch draws new crops, of which there is no end to cache; set data.views to "
                "the number of fixed crops per image, such as 4, or train without a cache on sampled shifts "
                "(model.target SampledShifts)"
            )
        return self.views * len(self._training)

    def fixed_crops_dataloader(self, batches: Iterable[Sequence[int]]) -> CropLoader:
        """Load the fixed training crops of given numbers: first view 0 of all images in order, then view 1.

        Args:
            batches: For each batch the numbers of its crops, from 0 to `num_fixed_crops` - 1.
        """
        images = len(self._training)
        draws = [[Draw(number // images, number % images, 0) for number in batch] for batch in batches]
        return CropLoader(
            self._training,
            self._report_unreadable,
            batch_sampler=draws,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> CropLoader:
        """Random crops of the training part, in a new order every epoch."""
        if isinstance(self.source, ImageStream):
            sizes = self.source.count_in_shards(self._training.indices)
            make_sampler = partial(StreamSampler, sizes, self.source.buffer)
        else:
            make_sampler = partial(EpochSampler, self._training)
        sampler = make_sampler(
            batch_size=self.batch_size,
            seed=self.seed,
            num_processes=self.trainer.world_size if self.trainer else 1,
            process=self.trainer.global_rank if self.trainer else 0,
            progress=partial(read_progress, self.trainer) if self.trainer else None,
        )
        return self._loader(self._training, sampler)

    def val_dataloader(self) -> CropLoader | list[CropLoader]:
        """Centred crops of the held-out part, in order; no loader if nothing is held out."""
        return self._loader(self._held_out, None) if len(self._held_out) else []

    def _loader(self, dataset: TrainingCrops | HeldOutCrops, sampler: EpochSampler | None) -> CropLoader:
        return CropLoader(
            dataset,
            self._report_unreadable,
            sampler=sampler,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _find_readable(self, part: Int64[np.ndarray, " images"]) -> int:
        """Find the first image of a part that can be read, and report those before it.

        Raises:
            OSError: If none can be read.
        """
        unreadable: dict[str, str] = {}
        try:
            return find_first_readable(self.source, map(int, part), unreadable)[0]
        finally:
            for name, reason in unreadable.items():
                self._report_unreadable(name, reason)

    def _replace_held_out(
        self, training: Int64[np.ndarray, " training"], held_out: Int64[np.ndarray, " held_out"], reason: str
    ) -> tuple[Int64[np.ndarray, " fewer"], Int64[np.ndarray, " others"]]:
        """Hold out readable neighbours of images that cannot be read, at most half of the training part, and say so."""
        wanted = min(len(held_out), RUN_LENGTH, len(training) // 2)
        nearest = training[np.argsort(np.abs(training - held_out[0]), kind="stable")]
        found: list[int] = []
        while len(found) < wanted:
            try:
                found.append(self._find_readable(nearest))
            except OSError:
                break
            nearest = nearest[np.flatnonzero(nearest == found[-1])[0] + 1 :]
        others = np.sort(np.array(found, dtype=np.int64))
        names = ", ".join(map(self.source.name, map(int, others)))
        instead = f"{names}, which are not trained on, take their place" if found else "nothing is held out"
        warnings.warn(f"held-out part: {reason}; {instead}", stacklevel=3)
        return np.setdiff1d(training, others), others

    def _report_unreadable(self, name: str, reason: str) -> None:
        if name not in self._unreadable:
            self._unreadable.add(name)
            warnings.warn(f"{reason}; skipped, another image takes its place", stacklevel=2)


def read_progress(trainer: Trainer) -> tuple[int, int]:
    """Which epoch a trainer is in, and how many of its batches came before: not 0 only where it is resumed half-way."""
    return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready
