"""Tiles: placed over everything, exact where features are local, near the untiled features where they are not."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from torch import nn

from srt_distill import embed
from srt_distill.backbone import FeatureExtractor, backbone_normalization, load_backbone
from srt_distill.embedding.tiling import Tiling, choose_tiling, place_tiles, read_in_tiles
from tests.adaptation.collections_of_images import photograph

DEMO = Path(__file__).resolve().parents[2] / "checkpoints" / "demo"


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 19))
def test_tiles_hold_every_place_and_share_what_is_asked_for(length, side, overlap):
    overlap = min(overlap, side - 1)
    starts = place_tiles(length, side, overlap)
    covered = {place for start in starts for place in range(start, min(start + side, length))}
    assert covered == set(range(length))
    assert all(second - first <= side - overlap for first, second in pairwise(starts))
    assert starts[-1] == max(0, length - side)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.sampled_from([1, 2, 4]))
def test_local_features_are_those_of_the_whole_image(rows, columns, side, overlap, cell):
    images = torch.rand(2, 3, rows * 4, columns * 4, generator=torch.Generator().manual_seed(rows))
    tiling = Tiling(side * 4, min(overlap, side - 1) * 4, 4)
    read = lambda images: F.avg_pool2d(images, cell)  # noqa: E731
    torch.testing.assert_close(read_in_tiles(read, nn.Identity(), images, tiling), read(images))


def test_tiles_have_the_positions_of_the_whole_image(tiny_folder, generator):
    """Without attention a token is its patch and its place alone, so that tiles are exact."""
    model = load_backbone(f"local-dir:{tiny_folder}")
    with torch.no_grad():
        for block in model.blocks:
            block.attn.proj.weight.zero_()
            block.attn.proj.bias.zero_()
    images = torch.rand(2, 3, 72, 48, generator=generator)
    extract = FeatureExtractor(model)
    with torch.inference_mode():
        whole, tiled = extract(images)[0], read_in_tiles(lambda x: extract(x)[0], model, images, Tiling(32, 8, 8))
        torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=1e-4)
        assert "_pos_embed" not in vars(model)
        torch.testing.assert_close(extract(images)[0], whole)


def test_of_a_smooth_picture_features_are_near_those_of_one_pass():
    model = load_backbone(f"local-dir:{DEMO}")
    pixels = np.asarray(photograph(0).resize((448, 448))).copy()
    images = backbone_normalization(model)(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    extract = FeatureExtractor(model)
    with torch.inference_mode():
        whole, tiled = extract(images)[0], read_in_tiles(lambda x: extract(x)[0], model, images, Tiling(256, 64, 16))
    assert F.cosine_similarity(whole, tiled).mean() > 0.98


def test_embed_reads_in_tiles_and_small_images_at_once(tiny_folder, photographs, tmp_path):
    options = {"short_side": 64, "num_workers": 0, "progress": False}
    maps = {}
    for name, more in {"whole": {}, "tiled": {"tile": 32, "overlap": 16}, "large": {"tile": 1024}}.items():
        done = embed(
            str(tiny_folder), photographs, tmp_path / f"{name}.safetensors", pooling="dense", **more, **options
        )
        maps[name] = load_file(done.output)
    mean = embed(str(tiny_folder), photographs, tmp_path / "m.safetensors", tile=32, overlap=16, **options)
    vectors = load_file(mean.output)["features"]
    for place, (name, features) in enumerate(sorted(maps["whole"].items())):
        np.testing.assert_array_equal(maps["large"][name], features)
        assert maps["tiled"][name].shape == features.shape and not np.allclose(maps["tiled"][name], features)
        np.testing.assert_allclose(vectors[place], maps["tiled"][name].mean((1, 2)), atol=1e-4)


def test_what_does_not_go_with_tiles_is_refused(tiny_folder, photographs, tmp_path):
    output = tmp_path / "f.safetensors"
    for options, said in {
        ("tile", 30): "tile 30 is not a multiple of patch side 8 of at least 8; give 32",
        ("overlap", 8): "overlap 8 is given, but no tile",
    }.items():
        with pytest.raises(ValueError, match=said):
            embed(str(tiny_folder), photographs, output, **{options[0]: options[1]})
    with pytest.raises(ValueError, match="overlap 32 is not below tile 32"):
        embed(str(tiny_folder), photographs, output, tile=32, overlap=32)
    with pytest.raises(ValueError, match="use mean, or no tile"):
        embed(str(tiny_folder), photographs, output, tile=32, pooling="class")
    with pytest.raises(ValueError, match="multiples of the stride"):
        read_in_tiles(lambda x: x[..., :3, :3], nn.Identity(), torch.zeros(1, 3, 16, 16), Tiling(8, 0, 4))
    assert choose_tiling(448, None, 16) == Tiling(448, 112, 16)
