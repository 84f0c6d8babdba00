"""A backbone's weights under the names of the release it comes from, for the scripts of that release.

Shape legend: N tokens of the native grid, C channels.

DINO, MAE and DeiT published timm's own names, flat (DINO) or under `model` (MAE, DeiT); DeiT-3 names its layer scales
otherwise; DINOv2 has a mask token, a position embedding for the class token, and other names for registers and SwiGLU.
The inverse, which reads these files, is in `checkpoints.py` and timm's checkpoint filters.
"""

import re
from typing import Any, Literal

import torch
from torch import Tensor, nn

Layout = Literal["dino", "mae", "deit", "deit3", "dinov2"]

# What a plain vision transformer of timm may hold for its names to be those of the first releases
PLAIN_KEYS = re.compile(
    r"cls_token|dist_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)|head(_dist)?\.(weight|bias)"
    r"|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.(fc1|fc2))\.(weight|bias)"
)
DINOV2_KEYS = re.compile(PLAIN_KEYS.pattern.replace("dist_token", "reg_token") + r"|blocks\.\d+\.ls[12]\.gamma")
DEIT3_KEYS = re.compile(PLAIN_KEYS.pattern + r"|blocks\.\d+\.ls[12]\.gamma")


def find_release(model: nn.Module) -> Layout:
    """Whose names a backbone's weights were published under.

    Args:
        model: A backbone.

    Returns:
        The layout: by architecture for DeiT, DeiT-3 and DINOv2; for a plain vision transformer MAE's where its weights
        are tagged so, and DINO's otherwise.

    Raises:
        ValueError: If the model is of no such family.
    """
    traits: Any = model  # timm's attributes, unknown to nn.Module
    name, tag = traits.pretrained_cfg["architecture"], traits.pretrained_cfg.get("tag") or ""
    keys = model.state_dict().keys()
    candidates: list[tuple[Layout, bool, re.Pattern[str]]] = [
        ("dinov2", "dinov2" in name, DINOV2_KEYS),
        ("deit3", name.startswith("deit3_"), DEIT3_KEYS),
        ("deit", name.startswith("deit_"), PLAIN_KEYS),
        ("mae", name.startswith("vit_") and tag.startswith("mae"), PLAIN_KEYS),
        ("dino", name.startswith("vit_") and "cls_token" in keys, PLAIN_KEYS),
    ]
    fitting: list[tuple[Layout, re.Pattern[str]]] = [(found, pattern) for found, fits, pattern in candidates if fits]
    if not fitting:
        raise ValueError(
            f"{name} has no release layout here; known are DINO, MAE, DeiT, DeiT-3 and DINOv2: leave the format out"
        )
    layout, pattern = fitting[0]
    foreign = [key for key in keys if not pattern.fullmatch(key)]
    if foreign:
        raise ValueError(f"{name} holds {foreign[0]}, which {layout}'s release has no name for; leave the format out")
    return layout


def to_release_layout(model: nn.Module, layout: Layout) -> dict[str, Any]:
    """Lay a backbone's weights out as the release's scripts read them.

    Args:
        model: A backbone that `find_release` gave the layout of.
        layout: Whose names.

    Returns:
        What to save: the state dict, under `model` where the release has it there. DINO's and DINOv2's backbones have
        no classifier, so theirs has none.
    """
    state = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    if layout in ("dino", "dinov2"):
        state = {key: value for key, value in state.items() if not key.startswith("head")}
    if layout == "dinov2":
        return _to_dinov2(state)
    if layout == "deit3":
        state = {re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", key): value for key, value in state.items()}
    return state if layout == "dino" else {"model": state}


def _to_dinov2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2's names. timm adds the class token's position embedding to the token; here the table gets zeros for it."""
    renamed = {}
    swiglu = {key for key in state if key.endswith("mlp.fc1.weight")} and _is_gated(state)
    for key, value in state.items():
        if key == "reg_token":
            key = "register_tokens"
        elif key == "pos_embed" and "reg_token" in state:
            value = torch.cat([torch.zeros_like(state["cls_token"]), value], dim=1)
        elif swiglu:
            key = key.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        renamed[key] = value
    return {**renamed, "mask_token": torch.zeros_like(state["cls_token"][0])}


def _is_gated(state: dict[str, Tensor]) -> bool:
    """Whether the first product of the MLP gives twice what the second takes, as in SwiGLU."""
    return state["blocks.0.mlp.fc1.weight"].shape[0] == 2 * state["blocks.0.mlp.fc2.weight"].shape[1]
