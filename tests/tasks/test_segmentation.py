"""Segmentation: labels, layouts and scores against literal twins; linear heads, neighbours and windows on made data."""

import csv
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
from srt_distill.tasks.canvas import Placement
from srt_distill.tasks.heads import HeadTraining
from srt_distill.tasks.segmentation import Nuclei, Segmentation, SegmentationNeighbours
from srt_distill.tasks.segmentation.base import window_slices
from srt_distill.tasks.segmentation.labels import VOID, LabelRule, resize_labels, token_labels
from srt_distill.tasks.segmentation.layouts import open_data
from srt_distill.tasks.segmentation.linear import segmentation_loss
from srt_distill.tasks.segmentation.neighbours import look_up
from srt_distill.tasks.segmentation.scores import class_ious, count_areas, pool_areas
from tests.oracles import (
    neighbours_one_by_one,
    pooled_segmentation_by_pixel,
    sliding_mean_by_pixel,
    token_labels_by_pixel,
)
from tests.tasks.made_candidates import judge_all, made_candidate

# ------------------------------------------------------------------------------------------------------- scores


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_scores_are_those_of_a_loop_over_all_pixels(seed):
    draws = np.random.default_rng(seed)
    pairs = [(draws.integers(0, 4, (5, 6)), draws.integers(-1, 4, (5, 6))) for _ in range(3)]
    pooled = pool_areas([count_areas(predicted, truth, 5) for predicted, truth in pairs])
    assert pooled == pytest.approx(pooled_segmentation_by_pixel(pairs, 5), abs=1e-12)


def test_a_class_in_neither_truth_nor_prediction_has_no_iou():
    truth = np.array([[0, 1]])
    scores = pool_areas([count_areas(np.zeros_like(truth), truth, 3)])
    assert scores == {"mIoU": 0.25, "aAcc": 0.5, "mAcc": 0.5}
    assert np.isnan(class_ious([count_areas(truth, truth, 3)])[2])


def test_areas_are_summed_before_they_are_divided_and_void_counts_nowhere():
    first = count_areas(np.array([[0, 0, 0, 1]]), np.array([[0, 0, 0, 0]]), 2)
    second = count_areas(np.array([[1, 1]]), np.array([[1, VOID]]), 2)
    assert pool_areas([first, second])["mIoU"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert second == {"both": [0, 1], "predicted": [0, 1], "truth": [0, 1]}


def test_the_loss_is_divided_by_all_pixels(generator):
    logits = torch.randn(2, 3, 4, 5, generator=generator)
    labels = torch.randint(-1, 3, (2, 4, 5), generator=generator)
    total = 0.0
    for b, y, x in np.ndindex(2, 4, 5):
        if labels[b, y, x] != VOID:
            total -= float(logits[b, :, y, x].log_softmax(0)[labels[b, y, x]])
    assert float(segmentation_loss(logits, labels)) == pytest.approx(total / 40, abs=1e-6)


# ------------------------------------------------------------------------------------------------------- labels


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_token_labels_are_those_of_a_loop(seed):
    labels = np.random.default_rng(seed).integers(-1, 3, (8, 12))
    labels[:4, :4] = VOID
    shares = token_labels(labels, Placement((8, 12)), (2, 3), 3)
    assert np.abs(shares.numpy() - token_labels_by_pixel(labels, 4, 3)).max() < 1e-6


def test_token_labels_of_a_padded_image_leave_the_padding_out():
    shares = token_labels(np.ones((6, 8), int), Placement((8, 8), (1, 0, 6, 8)), (2, 2), 2)
    assert shares[1].tolist() == [[1, 1], [1, 1]]
    assert resize_labels(np.array([[1, 2], [3, 4]]), (4, 2)).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


def test_palette_indices_count_and_odd_label_images_are_refused(tmp_path):
    rule = LabelRule(("a", "b"), {0: 0, 1: 1, 255: VOID})
    picture = Image.fromarray(np.array([[0, 1, 255]], np.uint8))
    picture.putpalette([9] * 768)
    picture.save(tmp_path / "p.png")
    assert rule.read(tmp_path / "p.png").tolist() == [[0, 1, VOID]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert rule.read(tmp_path / "bits.png").tolist() == [[1, 0]]
    Image.fromarray(np.array([[0, 7, 300]], np.uint16)).save(tmp_path / "u.png")
    with pytest.raises(ValueError, match=r"u\.png has label values 7, 300, known are 0 to 1, 255"):
        rule.read(tmp_path / "u.png")
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match=r"rgb\.png has pixels of mode RGB"):
        rule.read(tmp_path / "rgb.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"broken\.png"):
        rule.read(tmp_path / "broken.png")


# ------------------------------------------------------------------------------------------------------- layouts


@pytest.fixture
def made(tmp_path):
    return Segmentation.example(tmp_path / "Street")


def test_lists_read_classes_and_void_by_name(made):
    data = open_data(made.root)
    assert data.rule.classes == ("sky", "house", "tree")
    assert set(np.unique(data.rule.read(data.train[0].labels))) == {VOID, 0, 1, 2}
    assert len(made.items()) == 4


def test_folders_are_read(made, tmp_path):
    root = tmp_path / "other"
    for split, target in (("train", "train"), ("test", "val")):
        shutil.copytree(made.root / split, root / target / "images")
        shutil.copytree(made.root / f"{split}annot", root / target / "labels")
    with pytest.raises(FileNotFoundError, match=r"classes\.txt.*one per line"):
        open_data(root)
    shutil.copy(made.root / "classes.txt", root)
    assert len(dataclasses.replace(made, root=root).items()) == 4


def test_ade20k_is_read_and_its_zero_is_void_once(tmp_path):
    for split in ("training", "validation"):
        for kind in ("images", "annotations"):
            (tmp_path / kind / split).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "images" / split / "ADE_1.jpg")
        labels = np.array([[0, 1, 2, 150, 3]] * 4, np.uint8)
        Image.fromarray(labels).save(tmp_path / "annotations" / split / "ADE_1.png")
    data = open_data(tmp_path)
    data.check()
    assert len(data.rule.classes) == 150
    assert data.rule.read(data.test[0].labels)[0].tolist() == [VOID, 0, 1, 149, 2]
    rows = ["Idx\tRatio\tTrain\tVal\tName", "1\t0.1\t2\t3\twall, rampart", "2\t0.1\t2\t3\tsky"]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(rows))
    data = open_data(tmp_path)
    assert data.rule.classes == ("wall", "sky")
    with pytest.raises(ValueError, match=r"ADE_1\.png has label values 3, 150"):
        data.check()


def test_instances_are_one_class(tmp_path):
    task = Nuclei.example(tmp_path)
    data = open_data(task.root)
    assert data.rule.classes == ("background", "object")
    assert set(np.unique(data.rule.read(data.train[0].labels))) == {0, 1}
    (tmp_path / "test.csv").write_text("id\na\n")
    with pytest.raises(ValueError, match=r"test\.csv.*'name'"):
        task.items()
    (tmp_path / "test.csv").write_text("name\ncell9\n")
    with pytest.raises(FileNotFoundError, match=r"cell9\.png is missing"):
        task.items()


def test_data_that_do_not_fit_are_refused_before_work(made, tmp_path):
    root = made.root
    label = root / "testannot" / "001.png"
    kept = label.read_bytes()

    def write(values):
        Image.fromarray(np.asarray(values, np.uint8)).save(label)

    write(np.zeros((64, 32)))
    with pytest.raises(ValueError, match=r"001\.png is 32x64 pixels, its image 64x64"):
        made.items()
    write(np.full((64, 64), 17))
    with pytest.raises(ValueError, match=r"001\.png has label values 17"):
        made.items()
    label.unlink()
    with pytest.raises(FileNotFoundError, match=r"001\.png is missing"):
        made.items()
    label.write_bytes(kept)
    (root / "classes.txt").write_text("sky\nhouse\ntree\nvoid\ncar\n")
    write(np.full((64, 64), 4))
    with pytest.raises(ValueError, match=r"001\.png has class 'car'"):
        made.items()
    (root / "test.txt").write_text("test/000.png\n")
    with pytest.raises(ValueError, match=r"test\.txt, line 1"):
        made.items()
    (root / "test.txt").write_text("\n")
    with pytest.raises(ValueError, match="no test image"):
        made.items()
    (root / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.txt or .*val\.txt is missing"):
        made.items()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds: nothing"):
        dataclasses.replace(made, root=tmp_path / "empty").items()
    with pytest.raises(ValueError, match="stride 341"):
        dataclasses.replace(made, window=32)


# ------------------------------------------------------------------------------------------------------- the tasks


@pytest.mark.parametrize("kind", [Segmentation, SegmentationNeighbours, Nuclei])
def test_made_data_are_segmented(tmp_path, kind):
    task = kind.example(tmp_path / "Street")
    outcomes = judge_all(task, made_candidate(patch=4), tmp_path / "out")
    pooled = task.pool(list(outcomes.values()))
    assert pooled["mIoU"] > 0.7
    assert set(pooled) == {score.name for score in task.info.scores}
    assert sorted({item.seed for item in outcomes}) == [0, 1]
    (table,) = task.tables({item.name: outcome for item, outcome in outcomes.items()}).values()
    rows = list(csv.DictReader(table.splitlines()))
    assert np.mean([float(row["IoU"]) for row in rows]) == pytest.approx(pooled["mIoU"], abs=1e-4)
    item, outcome = next(iter(outcomes.items()))
    sheet = task.draw(item, {"cells": outcome}, {"cells": tmp_path / "out" / item.name})
    assert [sorted(pictures) for _, pictures in sheet.rows] == [["cells", "ground truth", "image"], ["cells"]]
    assert task.view(made_candidate(patch=4), item).shape == (1, 3, 64, 64)
    assert json.loads(json.dumps(task.settings()))["num_train"] is None
    assert task.info.name.endswith("-street")


def test_the_same_seed_gives_the_same_numbers_and_radius_zero_and_one_view_change_none(made, tmp_path):
    task = dataclasses.replace(made, training=HeadTraining(steps=5, seeds=1))
    plain, again, zero, one = (
        [outcome.numbers for outcome in judge_all(task, candidate, tmp_path / str(index)).values()]
        for index, candidate in enumerate(
            [made_candidate(), made_candidate(), made_candidate(radius=0), made_candidate(output_shifts=((0, 0),))]
        )
    )
    assert plain == again == zero == one


def test_shifted_outputs_are_moved_back(made, tmp_path):
    """Views of a candidate whose features do not depend on the shift: moving them back smooths, nothing more."""
    single = made_candidate(patch=4)
    shifts = grid_shifts(1)
    views = dataclasses.replace(
        single, extract=lambda images: single.extract(images) * len(shifts), output_shifts=shifts
    )
    task = dataclasses.replace(made, training=HeadTraining(steps=40, learning_rate=0.01, seeds=1))
    scores = [task.pool(list(judge_all(task, c, tmp_path / n).values())) for n, c in (("a", single), ("b", views))]
    assert scores[1] != scores[0]
    assert scores[1]["mIoU"] == pytest.approx(scores[0]["mIoU"], abs=0.1)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_neighbours_are_those_of_a_loop(seed, num_neighbours):
    draws = np.random.default_rng(seed)
    queries, memory, labels = draws.normal(size=(5, 4)), draws.normal(size=(20, 4)), draws.random((20, 3))
    unit = torch.nn.functional.normalize(torch.from_numpy(memory), dim=1)
    found = look_up(torch.from_numpy(queries), unit, torch.from_numpy(labels), num_neighbours, 0.02)
    assert np.abs(found.numpy() - neighbours_one_by_one(queries, memory, labels, num_neighbours, 0.02)).max() < 1e-6


def test_a_memory_is_a_random_part_of_the_labelled_tokens(tmp_path):
    task = dataclasses.replace(SegmentationNeighbours.example(tmp_path), memory_tokens=30)
    prepared = task.prepare(made_candidate())
    assert prepared["0.tokens"].shape == (30, 7)
    assert prepared["0.labels"].sum(1).numpy() == pytest.approx(1)
    assert not torch.equal(prepared["0.tokens"], prepared["1.tokens"])
    assert torch.equal(task.prepare(made_candidate())["1.tokens"], prepared["1.tokens"])
    with pytest.raises(ValueError, match="seeds 0"):
        dataclasses.replace(task, seeds=0)


@pytest.mark.parametrize(("height", "width"), [(40, 50), (32, 33), (20, 64)])
def test_windows_cover_the_image_and_average(height, width):
    draws = np.random.default_rng(0)
    field = draws.random((2, height, width))

    def score(top, left, bottom, right):
        return field[:, top:bottom, left:right] + top + 3 * left

    total, counts = np.zeros((2, height, width)), np.zeros((height, width))
    for rows in window_slices(height, 32, 21):
        for columns in window_slices(width, 32, 21):
            total[:, rows, columns] += score(rows.start, columns.start, rows.stop, columns.stop)
            counts[rows, columns] += 1
    assert np.allclose(total / counts, sliding_mean_by_pixel(score, height, width, 32, 21, 2))


def test_windows_at_another_size(made, tmp_path):
    task = dataclasses.replace(made, short_side=48, window=30, stride=20, padding="crop")
    scores = task.pool(list(judge_all(task, made_candidate(patch=4), tmp_path).values()))
    assert scores["mIoU"] > 0.7
    assert task.view(made_candidate(patch=4), task.items()[0]).shape == (1, 3, 32, 32)


def test_camvid_and_nuclei_are_read(shared_data):
    camvid = Segmentation(shared_data / "tasks" / "camvid")
    assert len(camvid.items()) == 90
    assert len(camvid.open().rule.classes) == 11
    assert len(Nuclei(shared_data / "tasks" / "nuclei").items()) == 60
