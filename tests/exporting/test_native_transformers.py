"""Transformers' own classes: the hub's names, and why a model has none."""

import pytest
import torch
from safetensors.torch import load_file

from srt_distill.backbone import build_backbone
from srt_distill.exporting.native_layout import to_native_layout
from srt_distill.exporting.native_transformers import write_native
from srt_distill.exporting.verification import expect_features
from tests.backbone.small import build_small

SMALL = {"img_size": 56, "embed_dim": 24, "depth": 1, "num_heads": 2}

# Tensors of the hub's facebook/dinov2-with-registers-small, of one block
DINOV2_WITH_REGISTERS = [
    "embeddings.cls_token",
    "embeddings.mask_token",
    "embeddings.register_tokens",
    "embeddings.position_embeddings",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.projection.bias",
    "encoder.layer.0.norm1.weight",
    "encoder.layer.0.norm1.bias",
    "encoder.layer.0.attention.attention.query.weight",
    "encoder.layer.0.attention.attention.query.bias",
    "encoder.layer.0.attention.attention.key.weight",
    "encoder.layer.0.attention.attention.key.bias",
    "encoder.layer.0.attention.attention.value.weight",
    "encoder.layer.0.attention.attention.value.bias",
    "encoder.layer.0.attention.output.dense.weight",
    "encoder.layer.0.attention.output.dense.bias",
    "encoder.layer.0.layer_scale1.lambda1",
    "encoder.layer.0.norm2.weight",
    "encoder.layer.0.norm2.bias",
    "encoder.layer.0.mlp.fc1.weight",
    "encoder.layer.0.mlp.fc1.bias",
    "encoder.layer.0.mlp.fc2.weight",
    "encoder.layer.0.mlp.fc2.bias",
    "encoder.layer.0.layer_scale2.lambda1",
    "layernorm.weight",
    "layernorm.bias",
]


def build(name):
    model = build_backbone({"architecture": name, "model_args": SMALL, "num_classes": 0})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model


def test_dinov2_with_registers_has_the_hub_s_names_and_features(tmp_path):
    expected = expect_features(build("vit_small_patch14_reg4_dinov2"))
    proof = write_native(expected, tmp_path)
    assert proof.format == "Transformers, Dinov2WithRegistersModel"
    assert proof.remark == ""  # resizes as timm does
    assert list(proof.differences) == ["56x56", "140x210", "238x84"]
    assert max(proof.differences.values()) <= 1e-4
    assert set(load_file(tmp_path / "transformers" / "model.safetensors")) == set(DINOV2_WITH_REGISTERS)


def test_resizing_apart_from_timm_s_is_said_and_measured(exported):
    (proof,) = [proof for proof in exported.proofs if proof.format == "Transformers, ViTModel"]
    assert max(proof.differences.values()) <= 1e-4
    assert "away from 32x32 this class resizes position embeddings without antialiasing" in proof.remark
    assert (exported.folder / "transformers" / "preprocessor_config.json").is_file()


def test_kinds_are_told_apart():
    for name, kind in {
        "vit_small_patch14_dinov2": "dinov2",
        "vit_small_patch14_reg4_dinov2": "dinov2_with_registers",
        "deit_tiny_distilled_patch16_224": "deit",
        "deit_tiny_patch16_224": "vit",
    }.items():
        config, _ = to_native_layout(build(name))
        assert config["model_type"] == kind


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("vit_base_patch16_clip_224", "holds norm_pre.weight, which no native class of Transformers has"),
        ("vit_base_patch16_siglip_224", "holds attn_pool.latent, which no native class of Transformers has"),
        ("test_convnext", "which no native class of Transformers has"),
    ],
)
def test_models_without_a_native_class_are_told_why(name, says):
    with pytest.raises(ValueError, match=says):
        to_native_layout(build_small(name))


def test_a_grid_that_is_not_square_has_no_native_class():
    args = {**SMALL, "img_size": (32, 64)}
    model = build_backbone({"architecture": "vit_tiny_patch16_224", "model_args": args, "num_classes": 0})
    with pytest.raises(ValueError, match="has a grid of 2x4"):
        to_native_layout(model)
