"""Averages over other changes of the image that can be undone in its features.

Shape legend: B images, C channels, H W pixels, h w tokens.

SRT is one case of a pair of functions: change the image, undo the change in the feature map, average; the paper allows
any group of transformations whose inverse is at hand (Sect. 2.1). A pair belongs here if undoing it is exact, that is,
if it maps the grid of patches onto itself. A horizontal flip does. A small change of scale does not: patch borders of
the scaled image lie between pixels of the original, so that its features could only be put back by interpolation, which
costs accuracy (Table 8); nor do rotations by small angles and shifts by parts of a pixel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble.mean import at_least_float32, mean_maps
from srt_distill.extractor import Extractor


@dataclass(frozen=True)
class Perturbation:
    """A change of the image and how it is undone in a feature map.

    Attributes:
        transform: Images (B, 3, H, W) to changed images of the same size.
        undo: Maps (B, C, h, w) of changed images to maps in the place of the original's.
    """

    transform: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor], Tensor]


def mirror(tensor: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Left and right exchanged; its own inverse, on images and on maps."""
    return tensor.flip(-1)


HORIZONTAL_FLIP = Perturbation(mirror, mirror)


@dataclass(frozen=True)
class PerturbationMean:
    """Mean features of an image and of its changed copies, itself an extractor, with 1 + len(perturbations) passes.

    It takes an extractor and is one, so it goes with SRT: `StochasticResonance(PerturbationMean(extract))` averages the
    flipped passes of every shift too.

    Attributes:
        extract: The extractor whose features are averaged.
        perturbations: Changes of the image, besides none.
    """

    extract: Extractor
    perturbations: tuple[Perturbation, ...] = (HORIZONTAL_FLIP,)

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Mean fp32 maps (B, C, h, w), one a layer."""

        def views() -> Iterator[tuple[Tensor, ...]]:
            yield tuple(at_least_float32(layer) for layer in self.extract(images))
            for perturbation in self.perturbations:
                maps = self.extract(perturbation.transform(images))
                yield tuple(perturbation.undo(at_least_float32(layer)) for layer in maps)

        return mean_maps(views())
