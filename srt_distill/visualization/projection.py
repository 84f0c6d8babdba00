"""Feature maps as colours: the first principal components of all maps together, shown as red, green and blue.

Shape legend: C channels, h w tokens (or pixels, where the map has that resolution), K components.

Pictures can only be compared when they share a projection, so one is fitted over every map of a figure, whatever the
resolution of each: a map counts once, not once per token. The paper shows its features this way (Figs. 2, 5 and 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ROBUST_RANGE = (0.01, 0.99)
"""Quantiles of a component that become black and full colour: a few outlying tokens must not grey out a picture."""

_CHUNK = 1 << 15  # tokens centred at a time, so that a map at pixel resolution is never copied whole
_MAX_SAMPLES = 1 << 16  # tokens a map contributes to the quantiles, evenly spaced


@dataclass(frozen=True)
class Projection:
    """Principal components of feature maps and the range that maps each onto 0..1.

    Attributes:
        mean: centre of the features.
        components: unit directions, strongest first; the largest loading of each is positive, so signs are stable.
        low: value of each component shown as 0.
        high: value of each component shown as 1.
        explained: share of the features' variance along each component.
    """

    mean: Float[Tensor, " C"]
    components: Float[Tensor, "C K"]
    low: Float[Tensor, " K"]
    high: Float[Tensor, " K"]
    explained: Float[Tensor, " K"]

    def __call__(self, features: Float[Tensor, "*batch C h w"]) -> Float[Tensor, "*batch K h w"]:
        """Components of each token on the scale 0..1, clipped: three of them are an RGB image.

        Args:
            features: maps of any resolution with the channels that the projection was fitted on.

        Returns:
            fp32 maps of the same resolution, on the device of the features.

        Raises:
            ValueError: If the number of channels differs.
        """
        return self.unclipped(features).clamp_(0, 1)

    def unclipped(self, features: Float[Tensor, "*batch C h w"]) -> Float[Tensor, "*batch K h w"]:
        """Do the same without clipping: linear in the features, so interpolating before or after gives the same values.

        Args:
            features: maps of any resolution with the channels that the projection was fitted on.

        Returns:
            fp32 maps of the same resolution, on the device of the features.

        Raises:
            ValueError: If the number of channels differs.
        """
        if features.shape[-3] != len(self.mean):
            raise ValueError(
                f"features have {features.shape[-3]} channels, but the projection was fitted on {len(self.mean)}; "
                "maps under one projection must come from the same layer of the same architecture"
            )
        values = _components(features, self.mean, self.components)
        low, high = (bound.to(values.device)[:, None, None] for bound in (self.low, self.high))
        return (values - low) / (high - low)


def pca_projection(maps: Sequence[Float[Tensor, "*_ _ _ _"]], num_components: int = 3) -> Projection:
    """Fits one projection over all maps, each with the same weight.

    The covariance (C, C) is accumulated in fp32 and decomposed by `torch.linalg.eigh`: no random start, so the same
    maps give the same picture.

    Args:
        maps: (C, h, w) or (B, C, h, w) each; resolutions may differ, channels may not. Batched maps count per image.
        num_components: directions kept.

    Returns:
        The projection, on the device of the first map.

    Raises:
        ValueError: If there is no map, the channels differ or are fewer than the components, or a value is not finite.
    """
    images = [image for features in maps for image in features.reshape(-1, *features.shape[-3:])]
    if not images:
        raise ValueError("no feature map given; a projection needs at least one")
    channels = [image.shape[0] for image in images]
    if len(set(channels)) > 1:
        raise ValueError(
            f"maps have {sorted(set(channels))} channels; one projection needs maps of the same number of channels"
        )
    if channels[0] < num_components:
        raise ValueError(f"maps have {channels[0]} channels, fewer than the {num_components} components asked for")

    device = images[0].device
    tokens = [image.flatten(1) for image in images]  # (C, N) views
    mean = torch.stack([t.float().mean(1).to(device) for t in tokens]).mean(0)
    if not torch.isfinite(mean).all():
        raise ValueError("feature maps hold values that are not finite; look at the extractor before its picture")
    covariance = torch.zeros(channels[0], channels[0], device=device)
    for t in tokens:
        for chunk in t.split(_CHUNK, dim=1):
            centred = chunk.to(device=device, dtype=torch.float32) - mean[:, None]
            covariance += centred @ centred.T / t.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(covariance / len(tokens))
    vectors = vectors.flip(1)[:, :num_components]
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * torch.where(largest < 0, -1.0, 1.0)
    variance = eigenvalues.flip(0).clamp_min(0)
    explained = variance[:num_components] / variance.sum().clamp_min(torch.finfo(torch.float32).tiny)

    quantiles = torch.tensor(ROBUST_RANGE, device=device)
    bounds = torch.stack([_sampled_quantiles(image, mean, vectors, quantiles) for image in images])  # (images, 2, K)
    low, high = bounds[:, 0].amin(0), bounds[:, 1].amax(0)
    high = torch.where(high > low, high, low + 1)  # a constant component is black, not a division by zero
    return Projection(mean, vectors, low, high, explained)


def pca_rgb(maps: Sequence[Float[Tensor, "*_ _ _ _"]]) -> list[Float[Tensor, "*_ 3 _ _"]]:
    """Show every map as colours under one shared projection.

    Args:
        maps: (C, h, w) or (B, C, h, w) each; resolutions may differ, channels may not.

    Returns:
        One RGB image (or batch of images) a map, fp32 in 0..1, at the map's own resolution.

    Raises:
        ValueError: As `pca_projection`.
    """
    projection = pca_projection(maps)
    return [projection(features) for features in maps]


def _components(
    features: Float[Tensor, "*batch C h w"], mean: Float[Tensor, " C"], components: Float[Tensor, "C K"]
) -> Float[Tensor, "*batch K h w"]:
    """Coordinates along the components, without a centred copy of the features."""
    mean, components = mean.to(features.device), components.to(features.device)
    flat = features.flatten(-2)
    chunks = [components.T @ chunk.float() for chunk in flat.split(_CHUNK, dim=-1)]
    values = torch.cat(chunks, dim=-1) - (components.T @ mean)[:, None]
    return values.unflatten(-1, features.shape[-2:])


def _sampled_quantiles(
    image: Float[Tensor, "C h w"],
    mean: Float[Tensor, " C"],
    components: Float[Tensor, "C K"],
    quantiles: Float[Tensor, " q"],
) -> Float[Tensor, "q K"]:
    """Quantiles of each component over one map, from evenly spaced tokens."""
    values = _components(image, mean, components).flatten(1).to(mean.device)
    step = -(-values.shape[1] // _MAX_SAMPLES)
    return torch.quantile(values[:, ::step], quantiles, dim=1)
