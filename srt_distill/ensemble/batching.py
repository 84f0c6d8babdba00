"""How many shifted views go through an extractor together, and what happens when memory does not suffice.

Shape legend: B images, C channels, H W pixels, h w tokens.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from srt_distill.extractor import Extractor

ViewsPerBatch = int | Literal["auto"]
"""Views a batch; "auto" finds what fits and goes on with half as many where memory runs out."""

CPU_PIXELS = 2**17
"""Pixels a batch that "auto" starts with on a CPU: few views keep its cores busy, and small batches stay in cache."""


class ViewBatches:
    """Runs views through an extractor, a few at a time.

    Under "auto" an accelerator is first given all views at once, a CPU as many as have `CPU_PIXELS` pixels together.
    Where memory does not suffice the batch is halved and tried again, and the size that fitted is kept for further
    images of that size.

    Args:
        views_per_batch: Views that go through together, or "auto".

    Attributes:
        num_retries: Batches that did not fit and were halved, so far.

    Raises:
        ValueError: If the number is not positive.
    """

    def __init__(self, views_per_batch: ViewsPerBatch = 1) -> None:
        if isinstance(views_per_batch, int) and views_per_batch < 1:
            raise ValueError(f"views_per_batch {views_per_batch} is not a positive number; use 1 or more, or 'auto'")
        self.views_per_batch: ViewsPerBatch = views_per_batch
        self.num_retries = 0
        self._fitting: dict[tuple[object, ...], int] = {}

    def run(self, extract: Extractor, views: Sequence[Tensor]) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Extract the features of all views, in order.

        Args:
            extract: Any extractor.
            views: Images (B, 3, H, W) of one size; slices of a larger image are copied only batch by batch.

        Yields:
            A batch of n views (n B, 3, H, W), view after view, and its maps (n B, C, h, w), one a layer.

        Raises:
            torch.OutOfMemoryError: If not even the smallest allowed batch fits.
        """
        start = 0
        while start < len(views):
            chunk = views[start : start + self._size(views)]
            done = self._attempt(extract, chunk)
            if done is None:
                self._halve(chunk)
            else:
                yield done
                start += len(chunk)
            del done  # else it outlives the next batch's passes

    def _size(self, views: Sequence[Tensor]) -> int:
        if self.views_per_batch != "auto":
            return self.views_per_batch
        view = views[0]
        if _kind(view) in self._fitting:
            return self._fitting[_kind(view)]
        if view.device.type != "cpu":
            return len(views)
        num_images, _, height, width = view.shape
        return max(1, CPU_PIXELS // (num_images * height * width))

    def _attempt(self, extract: Extractor, chunk: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]] | None:
        """Run a batch; return it and its maps, or None where half of it is worth trying (all is freed then)."""
        try:
            batch = chunk[0] if len(chunk) == 1 else torch.cat(list(chunk))
            return batch, extract(batch)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if self.views_per_batch != "auto" or len(chunk) == 1:
                num_images, _, height, width = chunk[0].shape
                smaller = "views_per_batch 'auto' or a smaller number, or " if len(chunk) > 1 else ""
                raise torch.OutOfMemoryError(
                    f"{len(chunk)} of the shifted views of {num_images} images of {height}x{width} pixels do not fit "
                    f"into memory at once; use {smaller}fewer images a batch, or smaller images ({error})"
                ) from error
        return None

    def _halve(self, chunk: Sequence[Tensor]) -> None:
        self.num_retries += 1
        self._fitting[_kind(chunk[0])] = (len(chunk) + 1) // 2
        if chunk[0].device.type != "cpu":
            torch.get_device_module(chunk[0].device).empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on an accelerator or on the CPU."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in said or "out of memory" in said


def _kind(view: Tensor) -> tuple[object, ...]:
    return view.device, view.dtype, tuple(view.shape)
