"""Overlapping tokens: a finer grid from the same weights in one pass."""

import pytest
import timm
import torch
import torch.nn.functional as F

from srt_distill.backbone import FeatureExtractor, hash_weights, load_backbone, overlap_tokens
from tests.backbone.small import build_small


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load_backbone(f"local-dir:{tiny_folder}")


@pytest.fixture
def images(generator):
    return torch.randn(2, 3, 32, 48, generator=generator)


def test_a_stride_of_the_patch_side_is_the_model_itself(model, images):
    (ours,), (theirs,) = FeatureExtractor(overlap_tokens(model, 8))(images), FeatureExtractor(model)(images)
    assert torch.equal(ours, theirs)


def test_half_the_stride_gives_four_times_the_tokens(model, images):
    (features,) = FeatureExtractor(overlap_tokens(model, 4))(images)
    assert features.shape == (2, 24, 8, 12)


def test_each_token_sees_the_patch_round_the_middle_of_its_cell(model, images):
    """The embedding itself, patch by patch: cell (r, c) of 4 pixels looks at 8 pixels that start 2 before it."""
    embed = model.patch_embed
    tokens = overlap_tokens(model, 4).patch_embed(images)  # (B, h, w, C)
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    for row, column in [(0, 0), (3, 5), (7, 11)]:
        patch = padded[..., 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
        literal = torch.einsum("bcyx,kcyx->bk", patch, embed.proj.weight) + embed.proj.bias
        torch.testing.assert_close(tokens[:, row, column], embed.norm(literal), atol=1e-5, rtol=1e-5)


def test_the_given_model_stays_as_it_is_and_shares_its_weights(model, images):
    before, (features,) = hash_weights(model), FeatureExtractor(model)(images)
    finer = overlap_tokens(model, 2)
    assert all(ours is theirs for ours, theirs in zip(finer.parameters(), model.parameters()))
    assert hash_weights(model) == before
    assert torch.equal(FeatureExtractor(model)(images)[0], features)


def test_dino_s_resizing_of_positions_goes_with_it(tiny_folder, images):
    dino = load_backbone(f"local-dir:{tiny_folder}", position_embedding="dino")
    (ours,) = FeatureExtractor(overlap_tokens(dino, 4))(images)
    (theirs,) = FeatureExtractor(overlap_tokens(load_backbone(f"local-dir:{tiny_folder}"), 4))(images)
    assert ours.shape == theirs.shape and not torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224"])
def test_models_whose_tokens_cannot_overlap_are_refused(name):
    with pytest.raises(ValueError, match="cannot overlap"):
        overlap_tokens(build_small(name), 2)


def test_a_model_of_one_size_is_refused():
    fixed = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2)
    with pytest.raises(ValueError, match="not resized to other grids"):
        overlap_tokens(fixed, 4)


@pytest.mark.parametrize("stride", [0, 3, 16])
def test_a_stride_that_does_not_divide_the_patch_is_refused(model, stride):
    with pytest.raises(ValueError, match="does not divide the patch side 8"):
        overlap_tokens(model, stride)
