"""SRT on a grid finer than the tokens', up to pixel resolution, in bands that fit into memory.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side in pixels,
s fine cells a token and axis.

Before it is pooled, the average over shifted maps has a value for every pixel (paper, Sect. 2.1 and Algorithm 1).
Pooled over cells of p/s pixels instead of whole tokens it keeps what the shifts tell of the inside of a token. Moving a
token map back and pooling it is a matrix on either side, `A_dy F A_dxᵀ`, with at most two non-zeros a row; so the views
of one dy are summed on token rows first, and only the rows of one band are ever expanded: at pixel resolution, ViT-S/16
at 480x832 with d = 3 takes 1.2 GiB in all band by band, and 1.7 GiB for the whole map (fp32, one image).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble.mean import StochasticResonance, shifted_maps
from srt_distill.ensemble.shifts import Border, Shift, check_cells, pixel_sources


def axis_matrix(
    shift: int, num_tokens: int, patch: int, scale: int, border: Border = "edge", radius: int = 0
) -> Float[Tensor, "m n"]:
    """Matrix that moves a row of tokens back by `shift` pixels and pools it onto s cells a token.

    Args:
        shift: Pixels along this axis, |shift| < patch.
        num_tokens: n, tokens along this axis.
        patch: p, pixels a token.
        scale: s, cells a token; divides p.
        border: Rule at the first and last token.
        radius: d; needed by "zeros_counted" alone.

    Returns:
        (n s, n), float64: the share of each cell's pixels that come from each token.

    Raises:
        ValueError: If the cells are not whole pixels, or the shift is not smaller than the patch.
    """
    check_cells(shift, patch, scale)
    token, weight = pixel_sources(shift, num_tokens, patch, border, radius)
    pixels = torch.nn.functional.one_hot(token, num_tokens) * weight[:, None]
    return pixels.view(num_tokens * scale, patch // scale, num_tokens).mean(1)


@dataclass(frozen=True)
class FineResonance:
    """SRT on a grid of s x s cells a token, itself an extractor: images (B, K, H, W) to maps (B, C, h s, w s).

    At s = 1 it is `srt`; at s = p it is the average at pixel resolution. Every border rule of `srt` holds.

    Attributes:
        srt: Which shifts are averaged, over which extractor.
        scale: s; divides the patch side of every layer.
        rows_per_band: Rows of fine cells that are expanded at once: memory against speed.

    Raises:
        ValueError: If scale or rows are not positive.
    """

    srt: StochasticResonance
    scale: int
    rows_per_band: int = 64

    def __post_init__(self) -> None:
        for name in ("scale", "rows_per_band"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not a positive number; use 1 or more")

    def bands(
        self, images: Float[Tensor, "B K H W"], shifts: Sequence[Shift] | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield the maps in bands from top to bottom; all passes are made before the first.

        Between bands memory holds 2d+1 maps of token rows and fine columns (B, C, h, w s), and no map of fine rows.

        Args:
            images: (B, K, H+2m, W+2m) normalised images with the margin of `srt`.
            shifts: Shifts to average instead of those of `srt`.

        Yields:
            For each band, one map (B, C, rows, w s) a layer. Layers of different strides have the same share of the
            image in a band.

        Raises:
            ValueError: If the scale does not divide a layer's stride, or a layer has but one token.
        """
        sums, patches = self._sum_columns(images, shifts)
        steps = self._row_steps(shifts)
        matrices = [self._row_matrix(steps, layer, patch) for layer, patch in zip(sums, patches, strict=True)]
        num_bands = -(-max(len(matrix) for matrix in matrices) // self.rows_per_band)
        for band in range(num_bands):
            yield tuple(
                torch.matmul(matrix[band * len(matrix) // num_bands : (band + 1) * len(matrix) // num_bands], layer)
                for matrix, layer in zip(matrices, sums, strict=True)
            )

    def __call__(self, images: Float[Tensor, "B K H W"], shifts: Sequence[Shift] | None = None) -> tuple[Tensor, ...]:
        """Return the whole maps (B, C, h s, w s), one per layer; see `bands`."""
        sums, patches = self._sum_columns(images, shifts)
        steps = self._row_steps(shifts)
        return tuple(
            torch.matmul(self._row_matrix(steps, layer, patch), layer)
            for layer, patch in zip(sums, patches, strict=True)
        )

    def _row_steps(self, shifts: Sequence[Shift] | None) -> list[int]:
        return sorted({dy for dy, _ in (self.srt.shifts if shifts is None else shifts)})

    def _sum_columns(self, images: Tensor, shifts: Sequence[Shift] | None) -> tuple[list[Tensor], tuple[int, ...]]:
        """Move views of each dy back along columns and average them: (B, C, k h, w s) for k different dy, per layer."""
        shifts = self.srt.shifts if shifts is None else shifts
        steps, sums, patches = self._row_steps(shifts), [], ()
        srt = self.srt
        for (dy, dx), maps, patches in shifted_maps(
            srt.extract,
            images,
            shifts,
            radius=srt.radius,
            border=srt.border,
            margin=srt.margin,
            batches=srt.batches,
        ):
            for layer, (features, patch) in enumerate(zip(maps, patches, strict=True)):
                rows, columns = features.shape[-2:]
                if rows == columns == 1:
                    raise ValueError(
                        f"layer {layer} of those chosen has one token for the whole image, which has no inside to "
                        "refine; choose layers of patch tokens"
                    )
                matrix = axis_matrix(dx, columns, patch, self.scale, srt.border, srt.radius).to(features)
                if layer == len(sums):
                    shape = (*features.shape[:2], len(steps) * rows, len(matrix))
                    sums.append(features.new_zeros(shape))
                part = sums[layer].narrow(-2, steps.index(dy) * rows, rows)
                part.add_(features @ matrix.T, alpha=1 / len(shifts))
        return sums, patches

    def _row_matrix(self, steps: list[int], sums: Tensor, patch: int) -> Tensor:
        """Build what moves the rows of every dy back and adds them up: (h s, k h)."""
        rows = sums.shape[-2] // len(steps)
        blocks = [axis_matrix(dy, rows, patch, self.scale, self.srt.border, self.srt.radius) for dy in steps]
        return torch.cat(blocks, dim=1).to(sums)
