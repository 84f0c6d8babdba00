"""A plain vision transformer as Transformers' own classes know it: `config.json` and the hub's names of tensors.

Shape legend: C channels, p patch side in pixels.

`ViTModel`, `DeiTModel`, `Dinov2Model` and `Dinov2WithRegistersModel` are written without Transformers, in the layout
of the checkpoints that its hub repositories hold; every version of it reads that.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn

from srt_distill.backbone import describe_backbone

# timm's names and the hub's, of a ViT or DeiT (first) and of a DINOv2 (second); None where there is no such tensor
NAMES: tuple[tuple[str, str | None, str | None], ...] = (
    (r"cls_token", "embeddings.cls_token", "embeddings.cls_token"),
    (r"dist_token", "embeddings.distillation_token", None),
    (r"reg_token", None, "embeddings.register_tokens"),
    (r"pos_embed", "embeddings.position_embeddings", "embeddings.position_embeddings"),
    (
        r"patch_embed\.proj\.(\w+)",
        r"embeddings.patch_embeddings.projection.\1",
        r"embeddings.patch_embeddings.projection.\1",
    ),
    (r"norm\.(\w+)", r"layernorm.\1", r"layernorm.\1"),
    (r"blocks\.(\d+)\.norm1\.(\w+)", r"encoder.layer.\1.layernorm_before.\2", r"encoder.layer.\1.norm1.\2"),
    (r"blocks\.(\d+)\.norm2\.(\w+)", r"encoder.layer.\1.layernorm_after.\2", r"encoder.layer.\1.norm2.\2"),
    (
        r"blocks\.(\d+)\.attn\.proj\.(\w+)",
        r"encoder.layer.\1.attention.output.dense.\2",
        r"encoder.layer.\1.attention.output.dense.\2",
    ),
    (
        r"blocks\.(\d+)\.attn\.(query|key|value)\.(\w+)",
        r"encoder.layer.\1.attention.attention.\2.\3",
        r"encoder.layer.\1.attention.attention.\2.\3",
    ),
    (r"blocks\.(\d+)\.mlp\.fc1\.(\w+)", r"encoder.layer.\1.intermediate.dense.\2", r"encoder.layer.\1.mlp.fc1.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(\w+)", r"encoder.layer.\1.output.dense.\2", r"encoder.layer.\1.mlp.fc2.\2"),
    (r"blocks\.(\d+)\.ls([12])\.gamma", None, r"encoder.layer.\1.layer_scale\2.lambda1"),
)


def to_native_layout(model: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Make configuration and weights of the native class that a backbone is.

    Args:
        model: A backbone.

    Returns:
        What belongs into config.json, and the state dict.

    Raises:
        ValueError: If no native class computes what the model does; the message says what stands in the way.
    """
    traits: Any = model  # timm's attributes, unknown to nn.Module
    info = describe_backbone(model)
    state = _split_attention(model.state_dict())
    dinov2 = "blocks.0.ls1.gamma" in state
    weights = {key: value.clone().contiguous() for key, value in _rename(state, info.name, dinov2).items()}
    block = traits.blocks[0]
    width, hidden = info.num_features, state["blocks.0.mlp.fc1.weight"].shape[0]
    rows, columns = traits.patch_embed.grid_size
    activation = block.mlp.act
    if rows != columns or not isinstance(activation, nn.GELU) or activation.approximate != "none":
        raise ValueError(
            f"{info.name} has a grid of {rows}x{columns} and {type(activation).__name__}; the native classes of "
            "Transformers have a square grid and GELU"
        )
    config: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": info.num_layers,
        "num_attention_heads": block.attn.num_heads,
        "hidden_act": "gelu",
        "layer_norm_eps": traits.norm.eps,
        "image_size": rows * info.patch_size,
        "patch_size": info.patch_size,
        "num_channels": info.num_channels,
        "qkv_bias": "blocks.0.attn.query.bias" in state,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "dtype": "float32",
    }
    if dinov2:
        if hidden % width or info.num_prefix_tokens == 0:
            raise ValueError(f"{info.name} has an MLP of {hidden} on {width} channels; Dinov2Model needs a multiple")
        registers = "reg_token" in state
        kind = ("dinov2_with_registers", "Dinov2WithRegistersModel") if registers else ("dinov2", "Dinov2Model")
        config |= {"mlp_ratio": hidden // width, "use_swiglu_ffn": False}
        if registers:
            config["num_register_tokens"] = state["reg_token"].shape[1]
        weights["embeddings.mask_token"] = torch.zeros(1, width)
        positions = "embeddings.position_embeddings"
        if weights[positions].shape[1] == rows * columns:  # timm adds the class token's to the token itself
            weights[positions] = torch.cat([torch.zeros(1, 1, width), weights[positions]], dim=1)
    else:
        kind = ("deit", "DeiTModel") if "dist_token" in state else ("vit", "ViTModel")
        config |= {"intermediate_size": hidden, "pooler_act": "linear"}
        weights["pooler.dense.weight"] = torch.eye(width)  # a pooler that gives the class token; the backbone has none
        weights["pooler.dense.bias"] = torch.zeros(width)
    prefix = info.num_prefix_tokens - config.get("num_register_tokens", 0)
    if weights["embeddings.position_embeddings"].shape[1] != rows * columns + prefix:
        raise ValueError(f"{info.name} gives its class token no position embedding, the native classes do")
    return {"model_type": kind[0], "architectures": [kind[1]], **config}, weights


def _split_attention(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take queries, keys and values apart, the classifier left out."""
    split = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[key.replace(".qkv.", f".{part}.")] = rows
        elif not key.startswith("head"):
            split[key] = value
    return split


def _rename(state: dict[str, Tensor], name: str, dinov2: bool) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for pattern, plain, second in NAMES:
            found, target = re.fullmatch(pattern, key), second if dinov2 else plain
            if found and target:
                renamed[found.expand(target)] = value
                break
        else:
            raise ValueError(f"{name} holds {key}, which no native class of Transformers has")
    missing = [key for key in ("cls_token", "pos_embed", "norm.weight") if key not in state]
    if missing:
        raise ValueError(f"{name} has no {missing[0]}, which the native classes of Transformers need")
    return renamed
