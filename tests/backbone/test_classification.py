"""The classifier on the class token is the model's own."""

import pytest
import torch

from srt_distill.backbone import FeatureExtractor, build_backbone, classifier

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 32}


def build(architecture: str, num_classes: int = 7, **model_args):
    torch.manual_seed(0)
    args = {**SMALL, **model_args}
    model = build_backbone({"architecture": architecture, "model_args": args, "num_classes": num_classes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.mark.parametrize(
    ("architecture", "model_args"),
    [
        ("vit_tiny_patch16_224", {}),
        ("deit_tiny_patch16_224", {}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("deit3_small_patch16_224", {}),
        ("vit_small_patch14_reg4_dinov2", {"patch_size": 16}),
        ("eva02_tiny_patch14_224", {"patch_size": 16, "global_pool": "token"}),
    ],
)
def test_logits_are_the_models_own(architecture: str, model_args: dict):
    model = build(architecture, **model_args)
    images = torch.randn(3, 3, 32, 48)
    (prefix,) = FeatureExtractor(model, ("-1:prefix",))(images)
    classify = classifier(model)
    assert classify is not None
    logits = classify(prefix.flatten(1))
    assert logits.shape == (3, 7)
    torch.testing.assert_close(logits, model(images))


@pytest.mark.parametrize(
    ("architecture", "num_classes", "model_args"),
    [
        ("vit_tiny_patch16_224", 0, {}),  # no classifier
        ("vit_tiny_patch16_224", 7, {"global_pool": "avg"}),  # patch tokens averaged
        ("vit_tiny_patch16_224", 7, {"global_pool": "map"}),  # pooled by attention
        ("vit_tiny_patch16_224", 7, {"class_token": False, "global_pool": "avg"}),  # no class token
    ],
)
def test_other_heads_have_no_such_function(architecture: str, num_classes: int, model_args: dict):
    assert classifier(build(architecture, num_classes, **model_args)) is None
