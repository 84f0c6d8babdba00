"""Label propagation: carry the first frame's masks through a video by feature similarity alone.

Shape legend: N context frames, C channels, K labels (background and objects), h w tokens, p patch side in pixels.

A token of the new frame takes the labels of the `top_k` context tokens most similar to it, among those of all context
frames that lie in a square window around it. The protocol's script (DINO, eval_video_segmentation) writes this as
exp(similarity / T) over all pairs, times a window mask, thresholded at the k-th largest and renormalised. Renormalised
exponentials are a softmax and exp keeps order, so the same labels follow from the top-k similarities and a softmax over
those k numbers. What is left to pay is the similarities: queries are taken in square tiles, and a tile meets only the
context tokens its windows reach, a small share of all pairs at small patches.

The two forms differ where the k-th and the next similarity are exactly equal: the script keeps all of them, we keep k.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

TILE = 15  # side of a query tile in tokens: small tiles meet fewer pairs outside their windows, large ones copy less
FLAT = 1e-5  # a channel whose range is a smaller share of its maximum is constant but for rounding


@dataclass(frozen=True)
class PropagationOptions:
    """How labels are carried from frame to frame; the defaults are those of DINO's script.

    Args:
        num_context_frames: Previous frames that are looked at besides the first.
        window_radius: Half side of the window in tokens, itself left out; null looks everywhere.
        top_k: How many context tokens a token averages, over all context frames together.
        temperature: Of the softmax over those.
    """

    num_context_frames: int = 7
    window_radius: int | None = 12
    top_k: int = 5
    temperature: float = 0.1


def propagate_labels(
    query: Float[Tensor, "C h w"],
    context: Float[Tensor, "N C h w"],
    labels: Float[Tensor, "N K h w"],
    options: PropagationOptions = PropagationOptions(),
) -> Float[Tensor, "K h w"]:
    """Compute the soft labels of a frame from context frames whose soft labels are known.

    Args:
        query: Features of the frame, any scale: they are compared by cosine.
        context: Features of the context frames.
        labels: Their soft labels.
        options: Window, top k and temperature.

    Returns:
        Weighted averages of the context's labels.
    """
    context_rows = F.normalize(context.float(), dim=1).permute(0, 2, 3, 1).contiguous()
    query_rows = F.normalize(query.float(), dim=0).permute(1, 2, 0).contiguous()
    return _propagate(query_rows, context_rows, labels, options)


def _propagate(
    query: Float[Tensor, "h w C"],
    context: Float[Tensor, "N h w C"],
    labels: Float[Tensor, "N K h w"],
    options: PropagationOptions,
) -> Float[Tensor, "K h w"]:
    """`propagate_labels` on unit features with channels last."""
    height, width, num_channels = query.shape
    num_context, num_labels = labels.shape[:2]
    radius = max(height, width) if options.window_radius is None else options.window_radius
    label_rows = labels.permute(0, 2, 3, 1)
    soft = labels.new_empty(height, width, num_labels)
    for rows, columns in _tiles(height, width):
        near_rows, near_columns = _reach(rows, radius, height), _reach(columns, radius, width)
        queries = query[rows, columns].reshape(-1, num_channels)
        keys = context[:, near_rows, near_columns].reshape(-1, num_channels)
        similarity = (queries @ keys.T).view(len(queries), num_context, -1)
        similarity += _window(rows, near_rows, columns, near_columns, radius, similarity)
        best, where = _top_k(similarity, options.top_k)
        weights = torch.softmax(best / options.temperature, dim=1)
        values = label_rows[:, near_rows, near_columns].reshape(-1, num_labels)[where]
        soft[rows, columns] = (weights[..., None] * values).sum(1).view(soft[rows, columns].shape)
    return soft.permute(2, 0, 1)


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """List tiles of the token grid, smaller at the lower and right border."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))


def _reach(span: slice, radius: int, length: int) -> slice:
    """Find the tokens along one axis that lie in the window of any token of a span."""
    return slice(max(span.start - radius, 0), min(span.stop + radius, length))


def _window(
    rows: slice, near_rows: slice, columns: slice, near_columns: slice, radius: int, like: Tensor
) -> Float[Tensor, "queries 1 keys"]:
    """Make what is added to the similarities of a tile: 0 inside a query's window, minus infinity outside."""

    def far(span: slice, near: slice) -> Tensor:
        queries = torch.arange(span.start, span.stop, device=like.device)
        return (queries[:, None] - torch.arange(near.start, near.stop, device=like.device)).abs() > radius

    outside = far(rows, near_rows)[:, None, :, None] | far(columns, near_columns)[None, :, None, :]
    outside = outside.flatten(2).flatten(0, 1)[:, None]
    return torch.zeros_like(outside, dtype=like.dtype).masked_fill_(outside, -torch.inf)


def _top_k(
    values: Float[Tensor, "queries N keys"], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """Find the k largest of each query and their places among N · keys; fewer where there are not so many.

    Exact, in two stages: the k largest lie at the k key positions with the largest maxima over the context frames, and
    a maximum costs far less than a sort.
    """
    num_context, num_keys = values.shape[1:]
    positions = values.amax(1).topk(min(k, num_keys), dim=1).indices
    candidates = values.gather(2, positions[:, None].expand(-1, num_context, -1)).flatten(1)
    best, chosen = candidates.topk(min(k, candidates.shape[1]), dim=1)
    frame = chosen.div(positions.shape[1], rounding_mode="floor")
    return best, frame * num_keys + positions.gather(1, chosen % positions.shape[1])


class LabelPropagator:
    """Carries soft labels through one video, frame by frame.

    The context is the first frame and up to `num_context_frames` frames before the current one, those with the soft
    labels they were given here, so that doubt is carried along instead of being rounded away.
    """

    def __init__(
        self,
        first_features: Float[Tensor, "C h w"],
        first_labels: Float[Tensor, "K h w"],
        options: PropagationOptions = PropagationOptions(),
    ) -> None:
        """Start from the first frame.

        Args:
            first_features: Its features.
            first_labels: Its labels, one-hot.
            options: Context, window, top k and temperature.
        """
        self.options = options
        num_slots = 1 + options.num_context_frames
        rows = self._unit_rows(first_features)
        self._features = rows.new_empty(num_slots, *rows.shape)
        self._labels = first_labels.new_empty(num_slots, *first_labels.shape)
        self._features[0], self._labels[0] = rows, first_labels
        self._num_seen = 1

    def step(self, features: Float[Tensor, "C h w"]) -> Float[Tensor, "K h w"]:
        """Give soft labels of the next frame, which then becomes context itself."""
        rows = self._unit_rows(features)
        num_slots = len(self._features)
        num_used = min(self._num_seen, num_slots)
        soft = _propagate(rows, self._features[:num_used], self._labels[:num_used], self.options)
        if num_slots > 1:  # the oldest of the previous frames gives way; slot 0 is the first frame, for good
            slot = 1 + (self._num_seen - 1) % (num_slots - 1)
            self._features[slot], self._labels[slot] = rows, soft
        self._num_seen += 1
        return soft

    @staticmethod
    def _unit_rows(features: Float[Tensor, "C h w"]) -> Float[Tensor, "h w C"]:
        return F.normalize(features.float(), dim=0).permute(1, 2, 0).contiguous()


def shrink_mask(mask: UInt8[np.ndarray, "H W"], num_labels: int, size: tuple[int, int]) -> Float[Tensor, "K h w"]:
    """Bring a mask to the token grid as one-hot labels, by nearest neighbour.

    Args:
        mask: Object ids, all below `num_labels`.
        num_labels: K, background included. An object that no token centre hits keeps its (empty) channel.
        size: Token rows and columns.
    """
    small = np.asarray(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))
    return F.one_hot(torch.from_numpy(small.astype(np.int64)), num_labels).permute(2, 0, 1).float()


def harden_labels(soft: Float[Tensor, "K h w"], patch: int) -> UInt8[Tensor, "H W"]:
    """Make object ids at pixel size of soft labels on the token grid.

    Bilinear upsampling by the patch side, each channel stretched to [0, 1], the largest wins. A channel that is
    constant but for rounding stays as it is: the script stretches its rounding noise, or divides zero by zero.
    """
    large = F.interpolate(soft[None], scale_factor=float(patch), mode="bilinear", align_corners=False)[0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    constant = high - low <= FLAT * high
    stretched = torch.where(constant, large, (large - low) / torch.where(constant, 1.0, high - low))
    return stretched.argmax(0).to(torch.uint8)
