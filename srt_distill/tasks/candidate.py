"""What is judged: features, with the normalisation that belongs to them and what a table says of them.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens.

Teacher, SRT, student, smoothed maps, baselines and any function of a user's own are candidates alike. Each sees images
normalised as *it* was trained: two models side by side may differ in mean and std.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Real
from torch import Tensor

from srt_distill.ensemble.shifts import Shift
from srt_distill.extractor import Extractor
from srt_distill.images import Normalization

UNSHIFTED: tuple[Shift, ...] = ((0, 0),)

ReadFeatures = Callable[[tuple[int | str, ...], bool], Extractor]
"""Layer specs (`-1`, `8:key`, `-1:prefix`) and whether the final norm is applied, to an extractor of these maps."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """Features to judge.

    Attributes:
        name: Caption of its rows, such as "teacher", "SRT d=3" or "student".
        extract: The features that the user chose; its last map is judged.
        normalization: What its images are normalised with: its own mean and std.
        passes: Forward passes that an image costs: 1, or (2d+1)² under SRT of radius d.
        num_parameters: Weights of the network.
        fingerprint: What tells these features from others, as plain data; decides whether an item is finished.
        device: Where images must be.
        read: The same model, run the same way, read at other layers, for tasks whose protocol names them (keys, four
            blocks, class tokens); None where only `extract` is to be had.
        classify: The classifier that came with the weights: prefix tokens (B, k C) after the final norm to logits
            (B, classes); None without one.
        output_shifts: Shifts of the last maps, where outputs are averaged instead of features ("output ensemble").
    """

    name: str
    extract: Extractor
    normalization: Normalization
    passes: int = 1
    num_parameters: int = 0
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    read: ReadFeatures | None = None
    classify: Callable[[Tensor], Tensor] | None = None
    output_shifts: tuple[Shift, ...] = UNSHIFTED

    def maps(self, images: Real[Tensor, "B K H W"]) -> tuple[Tensor, ...]:
        """Read the chosen features of images in bytes (0 to 255): maps (B, C, h, w), on the candidate's device."""
        return self._run(self.extract, images)

    def maps_at(
        self, images: Real[Tensor, "B K H W"], layers: tuple[int | str, ...], *, norm: bool = True
    ) -> tuple[Tensor, ...]:
        """Read features at layers that a task names: maps (B, C, h, w), one per layer; prefix tokens are 1x1.

        Args:
            images: Bytes, 0 to 255.
            layers: Layer specs, as `srt_distill.backbone.layers` has them.
            norm: Apply the final norm to maps of tokens.

        Raises:
            ValueError: If only the chosen features are to be had.
        """
        if self.read is None:
            raise ValueError(
                f"candidate {self.name!r} gives its chosen features only, and this task reads layers "
                f"{', '.join(map(str, layers))}; make the candidate with open_candidates, or give it a read function"
            )
        return self._run(self.read(layers, norm), images)

    def _run(self, extract: Extractor, images: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return extract(self.normalization(images.to(self.device, non_blocking=True)))
