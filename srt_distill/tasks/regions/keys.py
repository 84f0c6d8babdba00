"""Which features are cut: keys of the last block, as TokenCut and LOST read them.

Shape legend: B images, C channels, H W pixels, h w tokens.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Real
from torch import Tensor

from srt_distill.extractor import strides
from srt_distill.tasks.candidate import UNSHIFTED, Candidate

KeyFacet = Literal["key", "query", "value", "token", "chosen"]
PROBE_SIDE = 224  # pixels: a multiple of patch sides 7, 8, 14, 16, 28 and 32


@dataclass(frozen=True)
class KeyOptions:
    """Which features are cut.

    Args:
        layer: Block, 0-based, negative from the end.
        facet: What is read there, before the final norm: the attention's `key` (TokenCut's and LOST's choice), `query`
            or `value`, the block's `token`, or whatever features the candidate was `chosen` to be judged by. A
            candidate without keys is judged by its chosen features, under a warning.
        center: Subtract the image's mean feature first. Not in either paper; keys of supervised models share a large
            mean, under which nearly all tokens are alike.
    """

    layer: int = -1
    facet: KeyFacet = "key"
    center: bool = False


@dataclass(frozen=True)
class KeyReader:
    """How one candidate's features are read.

    Attributes:
        options: What was asked for.
        has_facet: Whether the candidate has it; else its chosen features are read.
        stride: Pixels per token.
        multiple: What image sides must be a multiple of, in pixels; the stride unless tokens are finer than patches.
    """

    options: KeyOptions
    has_facet: bool
    stride: int
    multiple: int

    @classmethod
    def probe(cls, candidate: Candidate, options: KeyOptions) -> "KeyReader":
        """Find out what a candidate has, with small blank images.

        Raises:
            ValueError: If it has no such layer, does not take images of any size, or averages outputs, not features.
        """
        if candidate.output_shifts != UNSHIFTED:
            raise ValueError(
                f"candidate {candidate.name!r} averages outputs over {len(candidate.output_shifts)} shifts, and a cut "
                "is of one map; judge it on videos, or leave it out here"
            )
        reader = cls(options, _has_facet(candidate, options), stride=1, multiple=1)
        square = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, dtype=torch.uint8)
        stride = strides(square, (reader._maps(candidate, square),))[0]
        multiple = stride
        while True:
            wider = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE + multiple, dtype=torch.uint8)
            try:
                reader._maps(candidate, wider)
            except ValueError:
                if multiple >= PROBE_SIDE:
                    raise
                multiple += stride
            else:
                return cls(options, reader.has_facet, stride, multiple)

    def to_tensors(self) -> dict[str, Tensor]:
        """Write down what was found out, for `Task.prepare`."""
        found = {"has_facet": self.has_facet, "stride": self.stride, "multiple": self.multiple}
        return {name: torch.tensor(int(value)) for name, value in found.items()}

    @classmethod
    def from_tensors(cls, options: KeyOptions, found: Mapping[str, Tensor]) -> "KeyReader":
        """Read what `to_tensors` wrote."""
        return cls(options, bool(found["has_facet"]), int(found["stride"]), int(found["multiple"]))

    @property
    def source(self) -> str:
        """What is read, such as "-1:key", or "chosen"."""
        return f"{self.options.layer}:{self.options.facet}" if self.has_facet else "chosen"

    def read(self, candidate: Candidate, image: Real[Tensor, "1 3 H W"]) -> Float[Tensor, "C h w"]:
        """Features of one image of bytes (0 to 255), in single precision.

        Raises:
            ValueError: If they are not finite.
        """
        features = self._maps(candidate, image)[0].float()
        if not bool(features.isfinite().all()):
            raise ValueError(
                f"features of candidate {candidate.name!r} are not finite; check its weights, or run it in float32"
            )
        return features - features.mean((1, 2), keepdim=True) if self.options.center else features

    def _maps(self, candidate: Candidate, images: Real[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        if self.has_facet:
            return candidate.maps_at(images, (self.source,), norm=False)[-1]
        return candidate.maps(images)[-1]


def _has_facet(candidate: Candidate, options: KeyOptions) -> bool:
    """Whether a candidate has the facet; if not, a warning says what is read instead."""
    if options.facet == "chosen":
        return False
    reason = "its features come without a way to read others"
    if candidate.read is not None:
        probe = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, dtype=torch.uint8)
        try:
            candidate.maps_at(probe, (f"{options.layer}:{options.facet}",), norm=False)
        except ValueError as error:
            candidate.maps_at(probe, (options.layer,), norm=False)  # a layer that it lacks is an error, no fallback
            reason = str(error)
        else:
            return True
    warnings.warn(
        f"candidate {candidate.name!r} has no facet {options.facet!r} at layer {options.layer} ({reason}); the "
        "features that it was chosen to be judged by are read instead",
        stacklevel=2,
    )
    return False
