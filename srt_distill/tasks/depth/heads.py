"""Heads that make depth of frozen features: linear bins over one or four blocks, and DPT.

Shape legend: B images, C channels of a block, h w tokens, N bins.

Source: DINOv2's depth evaluation (`BNHead`, whose batch norm is commented out, and `DPTHead`). A head takes the map of
each block and, after it, its class token as a map of one token; it gives depth in metres.
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

DepthHead = Literal["linear", "linear4", "dpt"]
"""linear: one block; linear4: four blocks; dpt: four blocks through convolutions."""

UPSAMPLING = 4
BIN_OFFSET = 0.1
DPT_CHANNELS = 256


class LinearBins(nn.Module):
    """Depth as the mean of evenly spaced depths under probabilities linear in the features.

    Blocks and their class tokens are stacked, upsampled four times, and mapped linearly to a logit per bin; ReLU, + .1,
    divided by their sum. The linear map comes before upsampling here: both are linear over positions and channels
    and bilinear weights sum to 1, so that the order does not matter, and this one costs a sixteenth.

    Args:
        channels: Of each map.
        num_bins: N.
        low: First depth, in metres.
        high: Last depth, in metres.
    """

    depths: Tensor

    def __init__(self, channels: Sequence[int], num_bins: int, low: float, high: float) -> None:
        super().__init__()
        self.logits = nn.Conv2d(sum(channels), num_bins, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.constant_(cast(Tensor, self.logits.bias), 0)
        self.register_buffer("depths", torch.linspace(low, high, num_bins), persistent=False)

    def forward(self, *maps: Float[Tensor, "B _C _h _w"]) -> Float[Tensor, "B 1 h4 w4"]:
        """Depth in metres, four values per token side."""
        size = maps[0].shape[-2:]
        logits = self.logits(torch.cat([features.expand(-1, -1, *size) for features in maps], 1))
        logits = F.interpolate(logits, scale_factor=UPSAMPLING, mode="bilinear", align_corners=False)
        weights = logits.relu() + BIN_OFFSET
        total = weights.sum(1, keepdim=True)
        return torch.einsum("bnhw,n->bhw", weights, self.depths)[:, None] / total


class DPT(nn.Module):
    """The dense prediction transformer's decoder (Ranftl et al., 2021), as DINOv2 has it.

    Args:
        channels: Of each map: four blocks, each followed by its class token if `class_token`.
        low: Added to the output, in metres.
        class_token: Whether class tokens are among the maps.

    Raises:
        ValueError: If there are not four blocks.
    """

    def __init__(self, channels: Sequence[int], low: float, class_token: bool) -> None:
        super().__init__()
        per_block = 2 if class_token else 1
        if len(channels) != 4 * per_block:
            raise ValueError(f"head dpt reads four blocks, not {len(channels) // per_block}; give four layers")
        self.low, self.class_token, wide = low, class_token, DPT_CHANNELS
        inputs = list(channels[::per_block])
        self.readouts = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * c, c), nn.GELU()) if class_token else nn.Identity() for c in inputs
        )
        narrow = [max(1, c // 2 ** (3 - level)) for level, c in enumerate(inputs)]
        self.projections = nn.ModuleList(nn.Conv2d(c, n, 1) for c, n in zip(inputs, narrow, strict=True))
        self.resizes = nn.ModuleList(
            [
                nn.ConvTranspose2d(narrow[0], narrow[0], 4, stride=4),
                nn.ConvTranspose2d(narrow[1], narrow[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(narrow[3], narrow[3], 3, stride=2, padding=1),
            ]
        )
        self.laterals = nn.ModuleList(nn.Conv2d(n, wide, 3, padding=1, bias=False) for n in narrow)
        self.fusions = nn.ModuleList(_Fusion(wide, lateral=level > 0) for level in range(4))
        self.project = nn.Conv2d(wide, wide, 3, padding=1)
        self.narrow = nn.Conv2d(wide, wide // 2, 3, padding=1)
        self.output = nn.Sequential(nn.Conv2d(wide // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1))

    def forward(self, *maps: Float[Tensor, "B _C _h _w"]) -> Float[Tensor, "B 1 h16 w16"]:
        """Depth in metres, about 16 values per token side."""
        blocks, tokens = (maps[::2], maps[1::2]) if self.class_token else (maps, maps)
        laterals = []
        for level, (features, token) in enumerate(zip(blocks, tokens, strict=True)):
            if self.class_token:
                both = torch.cat([features, token.expand_as(features)], 1).movedim(1, -1)
                features = self.readouts[level](both).movedim(-1, 1)
            features = self.resizes[level](self.projections[level](features))
            laterals.append(self.laterals[level](features))
        fused = self.fusions[0](laterals[3])
        for fusion, lateral in zip(list(self.fusions)[1:], reversed(laterals[:3]), strict=True):
            fused = fusion(fused, lateral)
        fused = self.narrow(F.relu(self.project(fused)))
        fused = F.interpolate(fused, scale_factor=2, mode="bilinear", align_corners=True)
        return F.relu(self.output(fused)) + self.low


class _Fusion(nn.Module):
    """Add a block's lateral map, refine, double the resolution."""

    def __init__(self, channels: int, *, lateral: bool) -> None:
        super().__init__()
        self.unit1 = _ResidualUnit(channels) if lateral else None
        self.unit2 = _ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor, lateral: Tensor | None = None) -> Tensor:
        if self.unit1 is not None and lateral is not None:
            lateral = F.interpolate(lateral, size=features.shape[-2:], mode="bilinear", align_corners=False)
            features = features + self.unit1(lateral)
        features = F.interpolate(self.unit2(features), scale_factor=2, mode="bilinear", align_corners=True)
        return self.project(features)


class _ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))), without biases or norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.second(F.relu(self.first(F.relu(features))))
