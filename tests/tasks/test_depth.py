"""Depth: scores, losses and heads against literal twins; layouts that do not fit; the task on made and real data."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from srt_distill.ensemble.shifts import grid_shifts
from srt_distill.tasks.depth import Depth
from srt_distill.tasks.depth.heads import DPT, LinearBins
from srt_distill.tasks.depth.layouts import open_split, read_depth
from srt_distill.tasks.depth.losses import log_gradient_loss, silog_loss
from srt_distill.tasks.depth.scores import score_depth, scored_pixels
from srt_distill.tasks.heads import HeadTraining
from tests.oracles import (
    depth_scores_by_pixel,
    linear_bins_literally,
    log_gradient_by_pixel,
    silog_by_pixel,
)
from tests.tasks.made_candidates import judge_all, made_candidate

# ------------------------------------------------------------------------------------------------------- scores


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_scores_are_those_of_a_loop(seed, median):
    draws = np.random.default_rng(seed)
    truth = draws.uniform(0.1, 12, (9, 7))
    truth[draws.random((9, 7)) < 0.2] = 0
    predicted = truth * draws.uniform(0.5, 2, (9, 7)) + 0.05
    known = (truth > 0.001) & (truth < 10)
    if known.sum() % 2 == 0:  # the twin's median is of odd numbers
        truth[tuple(np.argwhere(known)[0])] = 0
    given_scores = score_depth(predicted, truth, scored_pixels(truth, 0.001, 10.0), "median" if median else "none")
    assert given_scores == pytest.approx(depth_scores_by_pixel(predicted, truth, 0.001, 10.0, median=median), abs=1e-9)


def test_twice_the_truth():
    truth = np.random.default_rng(0).uniform(1, 5, (8, 8))
    scores = score_depth(2 * truth, truth, truth > 0)
    assert scores["AbsRel"] == pytest.approx(1)
    assert scores["RMSE_log"] == pytest.approx(np.log(2))
    assert scores["a1"] == scores["a2"] == scores["a3"] == 0
    scaled = score_depth(2 * truth, truth, truth > 0, "median")
    assert scaled["RMSE"] == pytest.approx(0, abs=1e-12)
    assert scaled["a1"] == 1


def test_thresholds_are_strict():
    truth = np.full((2, 2), 2.0)
    assert score_depth(truth * 1.25, truth, truth > 0)["a1"] == 0.0  # 1.25 is exact here
    assert score_depth(truth * 1.25, truth, truth > 0)["a2"] == 1.0


def test_limits_are_strict_and_all_pixels_of_an_all_true_mask_count():
    truth = np.array([[0.001, 0.002, 9.999, 10.0, 0.0]])
    assert scored_pixels(truth, 0.001, 10.0).tolist() == [[False, True, True, False, False]]
    truth = np.random.default_rng(0).uniform(1, 5, (6, 5))
    predicted = truth.copy()
    predicted[4] *= 3  # beyond the rows 0 and 1 that the public script looks at
    assert score_depth(predicted, truth, scored_pixels(truth, 0.001, 10.0))["RMSE"] > 0


def test_eigens_box():
    truth = np.full((480, 640), 2.0)
    scored = scored_pixels(truth, 0.001, 10.0, eigen_crop=True)
    rows, columns = np.argwhere(scored).min(0), np.argwhere(scored).max(0)
    assert (tuple(rows), tuple(columns)) == ((45, 41), (470, 600))
    assert scored.sum() == 426 * 560


def test_an_image_without_a_scored_pixel_is_undefined_and_left_out_of_the_mean(tmp_path):
    assert np.isnan(score_depth(np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 2), bool))["RMSE"])


# ------------------------------------------------------------------------------------------------------- losses


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_losses_are_those_of_loops(seed, with_variance):
    draws = np.random.default_rng(seed)
    truth = draws.uniform(0.5, 4, (2, 11, 9))
    truth[draws.random(truth.shape) < 0.3] = 0
    predicted = draws.uniform(0.5, 4, truth.shape)
    p, t = torch.from_numpy(predicted), torch.from_numpy(truth)
    expected = silog_by_pixel(predicted, truth, with_variance)
    assert float(silog_loss(p, t, with_variance=with_variance)) == pytest.approx(expected, abs=1e-9)
    assert float(log_gradient_loss(p, t)) == pytest.approx(log_gradient_by_pixel(predicted, truth), abs=1e-9)


def test_loss_of_twice_the_truth_and_slope_at_zero():
    truth = torch.full((2, 6, 6), 2.0, dtype=torch.float64)
    assert float(silog_loss(2 * truth, truth)) == pytest.approx(0.15**0.5 * np.log(2), abs=1e-3)
    predicted = truth.clone().requires_grad_()
    (silog_loss(predicted, truth) + log_gradient_loss(predicted, truth)).backward()
    assert torch.isfinite(predicted.grad).all()
    nothing = torch.zeros(1, 4, 4)
    assert float(silog_loss(nothing + 1, nothing)) == float(log_gradient_loss(nothing + 1, nothing)) == 0


def test_the_gradient_loss_sees_single_images():
    truth, predicted = torch.ones(1, 8, 8), torch.ones(1, 8, 8)
    predicted[:, :, 4:] = 2
    assert float(log_gradient_loss(predicted, truth)) > 0.1


# ------------------------------------------------------------------------------------------------------- heads


def test_linear_bins_in_the_cheap_order_equal_the_sources(generator):
    maps = [torch.randn(2, c, *size, generator=generator).double() for c, size in ((5, (3, 4)), (5, (1, 1)))]
    head = LinearBins([5, 5], 16, 0.001, 10.0).double()
    torch.nn.init.normal_(head.logits.weight, generator=generator)
    torch.nn.init.normal_(head.logits.bias, generator=generator)
    expected = linear_bins_literally(maps, head.logits.weight[:, :, 0, 0], head.logits.bias, 0.001, 10.0)
    assert (head(*maps)[:, 0] - expected).abs().max() < 1e-6


def test_zero_weights_give_the_middle_of_the_range():
    head = LinearBins([4], 256, 0.001, 10.0)
    torch.nn.init.zeros_(head.logits.weight)
    assert torch.allclose(head(torch.randn(1, 4, 2, 3)), torch.tensor(5.0005))


def test_dpt_gives_sixteen_values_per_token_side_above_its_lowest(generator):
    maps = [torch.randn(1, 16, *size, generator=generator) for _ in range(4) for size in ((2, 4), (1, 1))]
    head = DPT([16] * 8, 0.001, class_token=True)
    depth = head(*maps)
    assert depth.shape == (1, 1, 32, 64)
    assert depth.min() >= 0.001
    depth.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert DPT([16] * 4, 0.001, class_token=False)(*maps[::2]).shape == (1, 1, 32, 64)
    with pytest.raises(ValueError, match="four blocks"):
        DPT([16, 16], 0.001, class_token=True)


# ------------------------------------------------------------------------------------------------------- layouts


@pytest.fixture
def made(tmp_path):
    return Depth.example(tmp_path / "Kitchen")


def test_lists_of_bts_are_read(made, tmp_path):
    root = made.root
    (root / "nyu_train.txt").write_text(
        "/train/rgb/000.png /train/depth/000.png 518.8579\ntrain/rgb/001.png None 518.8579\n"
        "train/rgb/002.png train/depth/002.png 518.8579\n"
    )
    assert [pair.name for pair in open_split(root, "nyu_train")] == ["train_rgb_000", "train_rgb_002"]
    assert len(dataclasses.replace(made, train="nyu_train.txt").items()) == 4
    (root / "bad.txt").write_text("train/rgb/000.png train/depth/missing.png\n")
    with pytest.raises(FileNotFoundError, match="line 1.*missing.png"):
        open_split(root, "bad")
    (root / "bad.txt").write_text("one\n")
    with pytest.raises(ValueError, match=r"bad\.txt, line 1"):
        open_split(root, "bad")


def test_values_that_mean_unknown(tmp_path):
    Image.fromarray(np.array([[0, 500, 65535, 2000]], np.uint16)).save(tmp_path / "d.png")
    assert read_depth(tmp_path / "d.png", 1000.0, (0, 65535)).tolist() == [[0, 0.5, 0, 2]]
    assert read_depth(tmp_path / "d.png", 500.0, (2000,))[0, 3] == 0


def test_data_that_do_not_fit_are_refused_before_work(made):
    root = made.root
    with pytest.raises(FileNotFoundError, match="holds: test, train"):
        dataclasses.replace(made, test="val").items()
    with pytest.raises(ValueError, match="000.png.*crop 'none'"):
        dataclasses.replace(made, crop="eigen").items()
    depth = root / "test" / "depth" / "001.png"
    kept = depth.read_bytes()
    depth.unlink()
    with pytest.raises(FileNotFoundError, match="001.png is missing"):
        made.items()
    Image.fromarray(np.zeros((64, 60), np.uint16)).save(depth)
    with pytest.raises(ValueError, match="001.png is 60x64 pixels, its image 64x64"):
        made.items()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(depth)
    with pytest.raises(ValueError, match="001.png.*16-bit"):
        made.items()
    depth.write_bytes(kept[:40])
    with pytest.raises(OSError, match="001.png"):
        made.items()
    depth.write_bytes(kept)
    for path in (root / "train" / "depth").iterdir():
        Image.fromarray(np.full((64, 64), 65535, np.uint16)).save(path)
    with pytest.raises(ValueError, match="known pixel"):
        made.items()
    shutil.rmtree(root / "train" / "rgb")
    with pytest.raises(FileNotFoundError, match="train lacks folders rgb and depth"):
        made.items()


@pytest.mark.parametrize(
    "options",
    [{"min_depth": 0.0}, {"min_depth": 5.0}, {"head": "dpt", "layers": (1, 2)}, {"head": "linear4", "layers": (1,)}],
)
def test_options_that_cannot_be(tmp_path, options):
    with pytest.raises(ValueError, match="limits|four"):
        Depth(tmp_path, max_depth=4.0, **options)


# ------------------------------------------------------------------------------------------------------- the task


def test_a_head_beats_a_constant_and_items_are_images_and_seeds(made, tmp_path):
    outcomes = judge_all(made, made_candidate(), tmp_path / "out")
    assert [item.name for item in outcomes] == ["000 seed 0", "000 seed 1", "001 seed 0", "001 seed 1"]
    pooled = made.pool(list(outcomes.values()))
    truths = [read_depth(item.files[1], 1000.0, ()) for item in outcomes]
    median = np.median([read_depth(p, 1000.0, ()) for p in (made.root / "train" / "depth").iterdir()])
    constant = np.mean([score_depth(np.full_like(t, median), t, t > 0.001)["RMSE"] for t in truths])
    assert pooled["RMSE"] < 0.85 * constant
    assert set(pooled) == {score.name for score in made.info.scores}
    for item, outcome in outcomes.items():
        with Image.open(tmp_path / "out" / item.name / outcome.files[0]) as image:
            assert (image.mode, image.size) == ("I;16", (64, 64))
    item = next(iter(outcomes))
    folders = {"cells": tmp_path / "out" / item.name}
    sheet = made.draw(item, {"cells": outcomes[item]}, folders)
    assert [sorted(pictures) for _, pictures in sheet.rows] == [["cells", "ground truth", "image"], ["cells"]]
    assert made.view(made_candidate(), item).shape == (1, 3, 64, 64)
    assert json.loads(json.dumps(made.settings()))["training"]["steps"] == 80


def test_settings_know_the_training_images_and_not_where_they_lie(made, tmp_path):
    moved = dataclasses.replace(made, root=shutil.copytree(made.root, tmp_path / "elsewhere" / "Kitchen"))
    assert moved.settings() == made.settings()
    (moved.root / "train" / "rgb" / "000.png").write_bytes((moved.root / "train" / "rgb" / "001.png").read_bytes())
    assert moved.settings() != made.settings()
    assert made.info.name == "depth-kitchen"


@pytest.mark.parametrize("head", ["linear4", "dpt"])
def test_other_heads_train(made, tmp_path, head):
    short = HeadTraining(steps=2, batch_size=1, seeds=1)
    task = dataclasses.replace(made, head=head, layers=(0, 1, 2, 3), short_side=32, gradient_weight=0.5, training=short)
    outcomes = judge_all(task, made_candidate(), tmp_path)
    assert all(np.isfinite(outcome.numbers["RMSE"]) for outcome in outcomes.values())


def test_radius_zero_and_one_view_change_nothing_and_shifted_outputs_are_moved_back(made, tmp_path):
    task = dataclasses.replace(made, training=HeadTraining(steps=40, seeds=1))
    plain = [outcome.numbers for outcome in judge_all(task, made_candidate(), tmp_path / "a").values()]
    zero = [outcome.numbers for outcome in judge_all(task, made_candidate(radius=0), tmp_path / "b").values()]
    assert plain == zero
    ensemble = made_candidate(output_shifts=grid_shifts(3))
    shifted = [outcome.numbers for outcome in judge_all(task, ensemble, tmp_path / "c").values()]
    assert shifted != plain
    assert all(s["RMSE"] < 1.1 * p["RMSE"] for s, p in zip(shifted, plain))


def test_seven_scenes_and_nyu_are_read(shared_data):
    scenes = Depth(shared_data / "tasks" / "depth" / "7Scenes", max_depth=4.0)
    assert len(scenes.items()) == 30
    nyu = Depth(shared_data / "tasks" / "depth" / "NYU", train="../7Scenes/train", crop="eigen")
    assert len(nyu.items()) == 9
    with pytest.raises(FileNotFoundError, match="holds: camera-intrinsics.txt, test"):
        dataclasses.replace(nyu, train="train").items()
