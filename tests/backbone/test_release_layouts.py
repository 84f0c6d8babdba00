"""Weights under the names of the original releases, against a literal listing of those names."""

import pytest
import torch

from srt_distill.backbone import build_backbone, hash_weights, load_backbone, save_backbone
from srt_distill.backbone.release_layouts import find_release, to_release_layout
from tests.backbone.small import build_small

SMALL = {"img_size": 28, "embed_dim": 24, "depth": 1, "num_heads": 2}

# facebookresearch/dino, vision_transformer.py: VisionTransformer(depth=1).state_dict()
BLOCK = """norm1.weight norm1.bias attn.qkv.weight attn.qkv.bias attn.proj.weight attn.proj.bias norm2.weight norm2.bias
mlp.fc1.weight mlp.fc1.bias mlp.fc2.weight mlp.fc2.bias"""
DINO = ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"] + [
    f"blocks.0.{name}" for name in BLOCK.split()
]
# facebookresearch/dinov2, models/vision_transformer.py: DinoVisionTransformer(depth=1, block_chunks=0)
DINOV2 = [*DINO, "mask_token", "blocks.0.ls1.gamma", "blocks.0.ls2.gamma"]
DEIT = [*DINO, "head.weight", "head.bias"]
LISTINGS = {
    "vit_small_patch16_224": ("dino", 3, DINO),
    "vit_small_patch14_dinov2": ("dinov2", 3, DINOV2),
    "vit_small_patch14_reg4_dinov2": ("dinov2", 3, [*DINOV2, "register_tokens"]),
    "vit_giant_patch14_dinov2": (
        "dinov2",
        0,
        [key.replace("fc1", "w12").replace("fc2", "w3") for key in DINOV2],
    ),
    "deit_tiny_patch16_224": ("deit", 3, DEIT),
    "deit_tiny_distilled_patch16_224": ("deit", 3, [*DEIT, "dist_token", "head_dist.weight", "head_dist.bias"]),
    "deit3_small_patch16_224": ("deit3", 3, [*DEIT, "blocks.0.gamma_1", "blocks.0.gamma_2"]),
}


def build(name, num_classes=0):
    args = {**SMALL, "img_size": 28 if "14" in name else 32}
    model = build_backbone({"architecture": name, "model_args": args, "num_classes": num_classes})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


@pytest.mark.parametrize("name", LISTINGS)
def test_names_and_shapes_are_the_release_s(name):
    layout, num_classes, listing = LISTINGS[name]
    model = build(name, num_classes)
    assert find_release(model) == layout
    content = to_release_layout(model, layout)
    state = content["model"] if layout.startswith("deit") else content
    assert set(state) == set(listing)
    if layout == "dinov2":
        assert state["pos_embed"].shape == (1, 1 + 4, 24)
        assert state["mask_token"].shape == (1, 24)
        assert "reg4" not in name or state["register_tokens"].shape == (1, 4, 24)
    if layout == "dino":
        assert {key: value.shape for key, value in state.items()} == {
            key: value.shape for key, value in model.state_dict().items() if not key.startswith("head")
        }


@pytest.mark.parametrize("name", LISTINGS)
def test_our_own_reader_gives_the_model_back(name, tmp_path):
    layout, num_classes, _ = LISTINGS[name]
    model = build(name, num_classes if layout.startswith("deit") else 0)
    save_backbone(model, tmp_path / "timm")
    torch.save(to_release_layout(model, layout), tmp_path / "release.pth")
    again = load_backbone(f"local-dir:{tmp_path / 'timm'}", weights=tmp_path / "release.pth")
    assert hash_weights(again) == hash_weights(model)


def test_mae_is_told_by_its_tag():
    model = build("vit_base_patch16_224")
    model.pretrained_cfg["tag"] = "mae"
    assert find_release(model) == "mae"
    assert set(to_release_layout(model, "mae")["model"]) == set(DINO)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test_convnext", "test_convnext has no release layout here; known are DINO"),
        (
            "vit_base_patch16_clip_224",
            "holds norm_pre.weight, which dino's release has no name for",
        ),
    ],
)
def test_families_without_a_layout_are_refused(name, says):
    with pytest.raises(ValueError, match=says):
        find_release(build_small(name))
