"""Averages over other changes of the image that can be undone in its features.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens.

SRT is one case of a pair of functions: change the image, undo the change in the feature map, average; the paper allows
any group of transformations whose inverse is at hand (Sect. 2.1). A horizontal flip maps the grid of patches onto
itself, so that undoing it moves tokens and changes none. A small change of scale (`srt_distill.ensemble.scales`) puts
patch borders between those of the original: it is undone as a shift is, by what share of its area each token covers,
never by interpolation, which costs accuracy (Table 8).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble.mean import at_least_float32, mean_maps
from srt_distill.extractor import Extractor

Grid = tuple[int, int]
"""(h, w) in tokens."""


@dataclass(frozen=True)
class Perturbation:
    """A change of the image and how it is undone in a feature map.

    Attributes:
        transform: Images (B, K, H, W) to changed images.
        undo: A map (B, C, h2, w2) of changed images, and the grid (h, w) of the original's map at that layer, to a map
            (B, C, h, w) in the place of the original's.
    """

    transform: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor, Grid], Tensor]


def mirror(tensor: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Exchange left and right; its own inverse, on images and on maps."""
    return tensor.flip(-1)


HORIZONTAL_FLIP = Perturbation(mirror, lambda maps, _: mirror(maps))


@dataclass(frozen=True)
class PerturbationMean:
    """Mean features of an image and of its changed copies, itself an extractor, with 1 + len(perturbations) passes.

    It takes an extractor and is one, so it goes with SRT either way round: `StochasticResonance(PerturbationMean(…))`
    averages the changed passes of every shift too, `PerturbationMean(StochasticResonance(…))` the shifts of every
    changed image. A mean of flips and scales together is one inside the other.

    Attributes:
        extract: The extractor whose features are averaged.
        perturbations: Changes of the image, besides none.
    """

    extract: Extractor
    perturbations: tuple[Perturbation, ...] = (HORIZONTAL_FLIP,)

    def __call__(self, images: Float[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Average to fp32 maps (B, C, h, w), one per layer."""

        def views() -> Iterator[tuple[Tensor, ...]]:
            plain = tuple(at_least_float32(layer) for layer in self.extract(images))
            grids = [(layer.shape[-2], layer.shape[-1]) for layer in plain]
            yield plain
            for perturbation in self.perturbations:
                maps = self.extract(perturbation.transform(images))
                yield tuple(
                    perturbation.undo(at_least_float32(layer), grid) for layer, grid in zip(maps, grids, strict=True)
                )

        return mean_maps(views())
