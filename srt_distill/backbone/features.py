"""Describe a backbone and read feature maps off its layers.

Shape legend: B images, C channels, H W pixels, h w tokens, p patch side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class BackboneInfo:
    """What others need to know of a backbone.

    Attributes:
        name: timm architecture.
        patch_size: Patch side in pixels; image sides must be multiples of it.
        num_layers: Blocks that features can be read from.
        num_features: Channels of the last layer.
        num_prefix_tokens: Class and register tokens before the patch tokens.
        mean: Per channel, what images are normalised with.
        std: Per channel.
        num_parameters: Including the classifier, if any.
        has_head: Whether there is a classifier.
        fixed_size: (height, width) in pixels if no other image size is accepted.
    """

    name: str
    patch_size: int
    num_layers: int
    num_features: int
    num_prefix_tokens: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_parameters: int
    has_head: bool
    fixed_size: tuple[int, int] | None


def describe_backbone(model: nn.Module) -> BackboneInfo:
    """Describe a timm model.

    Args:
        model: A backbone.

    Returns:
        Its description; mean and std come from the model's own configuration.

    Raises:
        ValueError: If the patches are not square.
    """
    traits: Any = model  # timm's attributes, unknown to nn.Module
    config = traits.pretrained_cfg
    embed = traits.patch_embed
    height, width = embed.patch_size
    if height != width:
        raise ValueError(
            f"{config['architecture']} has patches of {height}x{width} pixels; only square patches are supported"
        )
    fixed = tuple(embed.img_size) if getattr(embed, "strict_img_size", False) and embed.img_size else None
    return BackboneInfo(
        name=config["architecture"],
        patch_size=height,
        num_layers=len(traits.feature_info),
        num_features=traits.num_features,
        num_prefix_tokens=getattr(model, "num_prefix_tokens", 0),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        has_head=traits.num_classes > 0,
        fixed_size=fixed,
    )


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """Images to the feature maps of chosen layers: the extractor that a timm model is.

    Not a module, so that a LightningModule holding it beside the model registers nothing twice. Gradients flow as
    they do through the model; blocks after the deepest chosen one are not run.

    Attributes:
        model: A backbone.
        layers: 0-based, negatives count from the last; maps come in this order, repeats allowed.
        norm: Apply the model's final norm to every map, so that the last one equals `forward_features`.
    """

    model: nn.Module
    layers: Sequence[int] = (-1,)
    norm: bool = True

    def __post_init__(self):
        num_layers = describe_backbone(self.model).num_layers
        if not self.layers:
            raise ValueError("no layer was chosen; give at least one, for example -1 for the last")
        for layer in self.layers:
            if not -num_layers <= layer < num_layers:
                raise ValueError(
                    f"layer {layer} is out of range; this backbone has layers 0 to {num_layers - 1} "
                    f"(or -{num_layers} to -1)"
                )

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B _C _h _w"], ...]:
        """Feature maps of the chosen layers.

        Args:
            images: Normalised with the backbone's mean and std.

        Returns:
            One map a chosen layer, in the order chosen.

        Raises:
            ValueError: If an image side does not fit the backbone.
        """
        info = describe_backbone(self.model)
        _check_size(images.shape[-2], images.shape[-1], info)
        chosen = [layer % info.num_layers for layer in self.layers]
        wanted = sorted(set(chosen))
        backbone: Any = self.model
        maps = backbone.forward_intermediates(
            images, indices=wanted, norm=self.norm, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        return tuple(maps[wanted.index(layer)] for layer in chosen)


def _check_size(height: int, width: int, info: BackboneInfo) -> None:
    if info.fixed_size is not None and (height, width) != info.fixed_size:
        raise ValueError(
            f"image {height}x{width} does not fit {info.name}, which only takes {info.fixed_size[0]}x"
            f"{info.fixed_size[1]}; resize first or choose a model that takes any size"
        )
    for side, pixels in (("height", height), ("width", width)):
        if pixels % info.patch_size:
            raise ValueError(
                f"image {side} {pixels} is not a multiple of patch side {info.patch_size}; resize or crop first"
            )
