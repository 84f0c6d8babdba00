"""Describe a backbone and read feature maps off its layers.

Shape legend: B images, K channels of an image, C channels, H W pixels, h w tokens, p patch side in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from srt_distill.backbone.attention import PROJECTIONS, capture_attention_inputs, find_attention, project_tokens
from srt_distill.backbone.layers import LayerSpec, parse_layer
from srt_distill.images import Normalization

# timm marks these families as of fixed size, yet they take any multiple of their stride (recipes/breadth.py)
FLEXIBLE_FAMILIES = ("EfficientVitMsra", "SwiftFormer", "Twins", "Xcit")
# These keep their last norm in the classifier's head and refuse to apply it to feature maps
NORM_IN_HEAD = ("Hiera", "HieraDet")


@dataclass(frozen=True)
class BackboneInfo:
    """What others need to know of a backbone.

    Attributes:
        name: timm architecture.
        patch_size: Image sides must be multiples of this many pixels: the patch side of a plain vision transformer, the
            coarsest stride of a hierarchical network.
        num_layers: Layers that features can be read from: blocks of a transformer, stages of a hierarchical network.
        num_features: Channels of the last layer.
        num_prefix_tokens: Class and register tokens before the patch tokens.
        mean: Per channel, what images are normalised with.
        std: Per channel.
        num_channels: Channels of the images: 3 for colours, 1 for grey, others for bands.
        num_parameters: Including the classifier, if any.
        has_head: Whether there is a classifier.
        fixed_size: (height, width) in pixels if no other image size is accepted.
        strides: Pixels per token, per layer.
        channels: Channels, per layer, with the final norm applied (of SAM that is the neck, which narrows the map).
    """

    name: str
    patch_size: int
    num_layers: int
    num_features: int
    num_prefix_tokens: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_channels: int
    num_parameters: int
    has_head: bool
    fixed_size: tuple[int, int] | None
    strides: tuple[int, ...]
    channels: tuple[int, ...]


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
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and patch[0] != patch[1]:
        raise ValueError(
            f"{config['architecture']} has patches of {patch[0]}x{patch[1]} pixels; only square patches are supported"
        )
    strides = tuple(int(layer["reduction"]) for layer in traits.feature_info)
    neck = getattr(model, "neck", None)
    narrowed = getattr(neck[0], "out_channels", None) if isinstance(neck, nn.Sequential) else None
    channels = tuple(int(narrowed or layer["num_chs"]) for layer in traits.feature_info)
    return BackboneInfo(
        name=config["architecture"],
        patch_size=max(strides),
        num_layers=len(strides),
        num_features=channels[-1],
        num_prefix_tokens=getattr(model, "num_prefix_tokens", 0),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
        num_channels=next((layer.in_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)), 3),
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        has_head=traits.num_classes > 0,
        fixed_size=_fixed_size(traits),
        strides=strides,
        channels=channels,
    )


def backbone_normalization(model: nn.Module) -> Normalization:
    """Make the normalisation of the images that a model was trained on, from its own configuration.

    Args:
        model: A backbone.

    Returns:
        Mean and std of every channel of its images.

    Raises:
        ValueError: If the configuration states them for another number of channels.
    """
    info = describe_backbone(model)
    for name, values in (("mean", info.mean), ("std", info.std)):
        if len(values) not in (1, info.num_channels):
            raise ValueError(
                f"{info.name} takes images of {info.num_channels} channels, but its configuration gives {name} for "
                f"{len(values)}; state {info.num_channels} values of mean and std in pretrained_cfg of its config.json"
            )
    repeats = (info.num_channels // len(info.mean), info.num_channels // len(info.std))
    return Normalization(info.mean * repeats[0], info.std * repeats[1])


def set_normalization(
    model: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> nn.Module:
    """Give a model another mean or std, which go wherever it goes: into checkpoints and exports.

    Args:
        model: A backbone; changed in place.
        mean: Per channel of its images, or one for all; None leaves its own.
        std: Likewise.

    Returns:
        The model.

    Raises:
        ValueError: If there is not one per channel, or a std is not above 0.
    """
    info = describe_backbone(model)
    traits: Any = model  # timm's attributes, unknown to nn.Module
    for name, values in (("mean", mean), ("std", std)):
        if values is None:
            continue
        if len(values) not in (1, info.num_channels):
            raise ValueError(
                f"{name} has {len(values)} values, {info.name} takes images of {info.num_channels} channels; give one "
                "per channel, or one for all"
            )
        if not all(math.isfinite(value) and (name == "mean" or value > 0) for value in values):
            raise ValueError(f"{name} {list(values)} must be finite{', and above 0' * (name == 'std')}")
        per_channel = tuple(map(float, values)) * (info.num_channels // len(values))
        traits.pretrained_cfg = {**traits.pretrained_cfg, name: per_channel}
    return model


def _fixed_size(traits: Any) -> tuple[int, int] | None:
    embed = getattr(traits, "patch_embed", None)
    fixed = getattr(embed, "strict_img_size", None)
    if fixed is None:
        flexible = getattr(traits, "dynamic_img_size", False) or type(traits).__name__ in FLEXIBLE_FAMILIES
        fixed = traits.pretrained_cfg.get("fixed_input_size", False) and not flexible
    if not fixed:
        return None
    built_with = vars(traits).get("backbone_args", {}).get("img_size")
    size = getattr(embed, "img_size", None) or built_with or traits.pretrained_cfg["input_size"][-2:]
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """Images to the feature maps of chosen layers: the extractor that a timm model is.

    Not a module, so that a LightningModule holding it beside the model registers nothing twice. Gradients flow as
    they do through the model; blocks after the deepest chosen one are not run.

    Attributes:
        model: A backbone.
        layers: Layer specs (`srt_distill.backbone.layers`): 0-based numbers, negatives counting from the last, with an
            optional facet: -1, "8:key", "-1:prefix". Maps come in this order, repeats allowed.
        norm: Apply the model's final norm to every map of tokens, so that the last one equals `forward_features`.
            Hierarchical networks have it, if at all, at the last layer only; convolutional ones, and those that pool
            first and norm then, have none to apply. Facets of the attention are not normed.
    """

    model: nn.Module
    layers: Sequence[int | str] = (-1,)
    norm: bool = True

    def __post_init__(self):
        if not self.layers:
            raise ValueError("no layer was chosen; give at least one, for example -1 for the last")
        info = describe_backbone(self.model)
        for spec in self._specs(info.num_layers):
            if spec.facet == "prefix" and not info.num_prefix_tokens:
                raise ValueError(f"{info.name} has no class or register tokens; choose layers without the facet prefix")
            if spec.facet in PROJECTIONS:
                find_attention(self.model, spec.layer)

    def __call__(self, images: Float[Tensor, "B _K H W"]) -> tuple[Float[Tensor, "B _C _h _w"], ...]:
        """Feature maps of the chosen layers.

        Args:
            images: Normalised with the backbone's mean and std.

        Returns:
            One map a chosen layer, in the order chosen.

        Raises:
            ValueError: If an image side or the number of channels does not fit the backbone.
        """
        info = describe_backbone(self.model)
        if images.shape[1] != info.num_channels:
            raise ValueError(
                f"{info.name} takes images of {info.num_channels} channels, these have {images.shape[1]}; give a "
                f"backbone for {images.shape[1]} channels, or images of {info.num_channels} bands"
            )
        specs = self._specs(info.num_layers)
        layers = sorted({spec.layer for spec in specs})
        height, width = images.shape[-2:]
        _check_size(height, width, info, max(info.strides[layer] for layer in layers))
        options: dict[str, bool] = {"norm": self.norm and type(self.model).__name__ not in NORM_IN_HEAD}
        if any(spec.facet == "prefix" for spec in specs):
            options["return_prefix_tokens"] = True
        backbone: Any = self.model
        with capture_attention_inputs(backbone, {s.layer for s in specs if s.facet in PROJECTIONS}) as inputs:
            outputs = backbone.forward_intermediates(
                images, indices=layers, stop_early=True, output_fmt="NCHW", intermediates_only=True, **options
            )
        by_layer = dict(zip(layers, outputs, strict=True))
        maps = []
        for spec in specs:
            output = by_layer[spec.layer]
            grid = height // info.strides[spec.layer], width // info.strides[spec.layer]
            if spec.facet == "prefix":
                maps.append(output[1].flatten(1)[..., None, None])
            elif spec.facet in PROJECTIONS:
                attention = find_attention(backbone, spec.layer)
                maps.append(project_tokens(attention, inputs[spec.layer], spec.facet, grid, info.num_prefix_tokens))
            else:
                tokens = output[0] if isinstance(output, tuple) else output
                _check_grid(tokens, grid, spec.layer, info)
                maps.append(tokens)
        return tuple(maps)

    def _specs(self, num_layers: int) -> list[LayerSpec]:
        specs = []
        for given in self.layers:
            spec = parse_layer(given)
            if not -num_layers <= spec.layer < num_layers:
                raise ValueError(
                    f"layer {spec.layer} is out of range; this backbone has layers 0 to {num_layers - 1} "
                    f"(or -{num_layers} to -1)"
                )
            specs.append(LayerSpec(spec.layer % num_layers, spec.facet))
        return specs


def _check_size(height: int, width: int, info: BackboneInfo, multiple: int) -> None:
    if info.fixed_size is not None and (height, width) != info.fixed_size:
        raise ValueError(
            f"image {height}x{width} does not fit {info.name}, which only takes {info.fixed_size[0]}x"
            f"{info.fixed_size[1]}; resize first or choose a model that takes any size"
        )
    if info.fixed_size is not None and (height % multiple or width % multiple):
        raise ValueError(
            f"{info.name} only takes {height}x{width}, which cells of {multiple} pixels do not tile, so shifts cannot "
            "be undone there; choose an earlier layer or another model"
        )
    for side, pixels in (("height", height), ("width", width)):
        if pixels % multiple:
            raise ValueError(f"image {side} {pixels} is not a multiple of patch side {multiple}; resize or crop first")


def _check_grid(tokens: Tensor, grid: tuple[int, int], layer: int, info: BackboneInfo) -> None:
    if tuple(tokens.shape[-2:]) != grid:
        raise ValueError(
            f"layer {layer} of {info.name} gives {tokens.shape[-2]}x{tokens.shape[-1]} tokens, which do not tile "
            f"the image in cells of {info.strides[layer]} pixels, so shifts cannot be undone there; choose another "
            "layer or model"
        )
