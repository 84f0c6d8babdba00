"""A backbone cut in two, and SRT between the halves."""

import pytest
import torch

from srt_distill.backbone import FeatureExtractor, describe_backbone
from srt_distill.backbone.resumed import SplitBackbone
from srt_distill.ensemble import ResumedResonance, StochasticResonance, aligned_maps, mean_maps
from tests.backbone.small import build_small

PLAIN_FAMILIES = [
    "vit_small_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3_qkvb",
    "vit_base_patch16_siglip_224",
    "eva02_tiny_patch14_224",
    "beit_base_patch16_224",
]


def resumed(model, layers, at, radius, norm=True, **options) -> ResumedResonance:
    split = SplitBackbone(model, layers, norm, at)
    return ResumedResonance(StochasticResonance(split.enter, radius), split.resume, **options)


@pytest.fixture
def model():
    return build_small("vit_small_patch16_224", reg_tokens=2)


@pytest.mark.parametrize("name", PLAIN_FAMILIES)
@torch.no_grad()
def test_radius_zero_is_the_plain_pass_to_the_bit_at_every_block(name: str):
    model = build_small(name)
    info = describe_backbone(model)
    images = torch.randn(2, 3, *(info.fixed_size or (2 * info.patch_size, 3 * info.patch_size)))
    layers = (0, -1, 1, *(("-1:prefix", "0:prefix", "1:key") if info.num_prefix_tokens else ()))
    for norm in (True, False):
        plain = FeatureExtractor(model, layers, norm)(images)
        for at in range(-1, info.num_layers + 1):
            ours = resumed(model, layers, at, 0, norm)(images)
            assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True)), at
            again = resumed(model, layers, at, 0, norm, prefix="unshifted")(images)
            assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True)), at


@torch.no_grad()
def test_with_nothing_left_to_run_it_is_plain_srt(model):
    images, layers = torch.randn(1, 3, 32, 48), (-1, "-1:prefix", "1:key", 0)
    plain = StochasticResonance(FeatureExtractor(model, layers), 2)(images)
    assert all(torch.equal(a, b) for a, b in zip(resumed(model, layers, 3, 2)(images), plain, strict=True))


@pytest.mark.parametrize("at", [0, 1, 2])
@torch.no_grad()
def test_blocks_run_by_hand_on_averages_taken_by_hand(model, at):
    images = torch.randn(2, 3, 32, 48)

    def until(views):
        tokens = model._pos_embed(model.patch_embed(views))
        for block in model.blocks[:at]:
            tokens = block(tokens)
        return tokens[:, 3:].transpose(1, 2).unflatten(2, (2, 3)), tokens[:, :3].flatten(1)[..., None, None]

    shifts = StochasticResonance(until, 1).shifts
    patches, prefix = mean_maps(aligned_maps(until, images, shifts, radius=1))
    tokens = torch.cat([prefix.view(2, 3, -1), patches.flatten(2).transpose(1, 2)], 1)
    for block in model.blocks[at:]:
        tokens = block(tokens)
    tokens = model.norm(tokens)
    ours, ours_prefix, early = resumed(model, (-1, "-1:prefix", 0), at, 1)(images)
    torch.testing.assert_close(ours.flatten(2).transpose(1, 2), tokens[:, 3:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours_prefix.view(2, 3, -1), tokens[:, :3], rtol=1e-4, atol=1e-5)
    if at > 0:  # a layer before the cut is averaged as plain SRT does
        torch.testing.assert_close(early, StochasticResonance(FeatureExtractor(model, (0,)), 1)(images)[0])


@torch.no_grad()
def test_unshifted_prefix_tokens_are_those_of_the_plain_pass(model):
    images = torch.randn(1, 3, 32, 48)
    seen = []
    split = SplitBackbone(model, ("-1:prefix",), True, 2)
    spy = lambda inner, averages: seen.append(averages) or split.resume(inner, averages)  # noqa: E731
    srt = StochasticResonance(split.enter, 1, margin=16)
    (ours,) = ResumedResonance(srt, spy, "unshifted")(torch.nn.functional.pad(images, (16,) * 4))
    assert torch.equal(seen[0][1], split.enter(images)[1]) and not torch.equal(seen[0][0], split.enter(images)[0])
    assert ours.shape == (1, 3 * 24, 1, 1)


def test_weights_are_shared_and_the_model_is_left_as_it_was(model):
    blocks = list(model.blocks)
    split = SplitBackbone(model, (-1,), True, 1)
    images = torch.randn(1, 3, 32, 32)
    split.resume(images, split.enter(images))[0].sum().backward()
    assert all(a is b for a, b in zip(model.blocks, blocks)) and len(model.blocks) == 3
    assert all(block.attn.qkv.weight.grad is not None for block in model.blocks)


@pytest.mark.parametrize(("at", "fault"), [(4, "resume_at 4 is out of range"), (-4, "blocks 0 to 2")])
def test_blocks_that_are_not_there_are_refused(model, at, fault):
    with pytest.raises(ValueError, match=fault):
        SplitBackbone(model, resume_at=at)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_resnet"])
def test_models_without_a_row_of_tokens_are_refused(name):
    with pytest.raises(ValueError, match="cannot be resumed at a block"):
        SplitBackbone(build_small(name))


def test_models_whose_blocks_see_no_row_of_tokens_are_refused():
    with pytest.raises(ValueError, match="leave resume_at out"), torch.no_grad():
        SplitBackbone(build_small("samvit_base_patch16_224"), resume_at=1).enter(torch.randn(1, 3, 64, 64))
