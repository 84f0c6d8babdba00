import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from srt_distill.tasks.saliency.folders import open_masked_images, read_grey
from srt_distill.tasks.saliency.scores import (
    accuracy,
    f_curve,
    intersection_over_union,
    max_f,
    token_cut_truth,
    toolbox_curves,
    toolbox_max_f,
)
from tests.oracles import f_by_threshold, toolbox_by_threshold

MASKS = arrays.arrays(bool, (3, 5))
# values on thresholds, between them, and outside 0..1, as the solver gives
MAPS = arrays.arrays(float, (3, 5), elements=st.integers(-3, 258).map(lambda k: k / 255) | st.floats(-0.1, 1.1))
BYTES = arrays.arrays(np.uint8, (3, 5), elements=st.integers(0, 40) | st.integers(0, 255))


@settings(max_examples=40, deadline=None)
@given(prediction=MAPS, truth=MASKS)
def test_the_curve_is_the_scripts_threshold_by_threshold(prediction, truth):
    np.testing.assert_allclose(f_curve(prediction, truth), f_by_threshold(prediction, truth), atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(predictions=st.lists(BYTES, min_size=3, max_size=3), masks=st.lists(BYTES, min_size=3, max_size=3))
def test_the_toolbox_is_its_definition_threshold_by_threshold(predictions, masks):
    predictions[0].flat[0] = 200  # one map that counts
    curves = [toolbox_curves(prediction, mask) for prediction, mask in zip(predictions, masks)]
    best, error = toolbox_by_threshold(predictions, masks)
    assert toolbox_max_f(curves) == pytest.approx(best, abs=1e-12)
    assert np.mean([curve.error for curve in curves]) == pytest.approx(error, abs=1e-12)


def test_f_is_averaged_over_images_before_the_best_threshold_is_taken():
    curves = np.array([[0.2, 0.8, 0.4], [0.9, 0.5, 0.1]])
    assert max_f(curves) == pytest.approx(0.65)  # not the mean of .8 and .9


def test_a_perfect_mask_has_full_scores():
    truth = np.zeros((6, 8), dtype=bool)
    truth[2:4, 3:6] = True
    assert intersection_over_union(truth, truth) == accuracy(truth, truth) == 1
    assert f_curve(truth.astype(float), truth).tolist() == pytest.approx([1] * 255)


def test_empty_masks():
    nothing, all_of_it = np.zeros((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)
    assert intersection_over_union(nothing, nothing) == 1
    assert intersection_over_union(nothing, all_of_it) == 0
    assert f_curve(np.zeros((2, 3)), nothing)[0] == pytest.approx(1)  # nothing predicted, nothing salient
    assert f_curve(np.zeros((2, 3)), all_of_it)[0] == 0
    assert toolbox_curves(np.zeros((2, 3)), np.zeros((2, 3), np.uint8)).counts is False


def test_any_grey_is_salient_for_the_script_and_a_tenth_of_white_for_the_toolbox():
    mask = np.array([[0, 1, 25, 26, 255]], dtype=np.uint8)
    assert token_cut_truth(mask).tolist() == [[False, True, True, True, True]]
    assert toolbox_curves(np.array([[0, 0, 0, 1, 1]]), mask).error == 0


def test_public_maps_have_the_toolboxs_published_scores(shared_data):
    folder = shared_data / "tasks" / "saliency"
    if not folder.is_dir():
        pytest.skip("no saliency data (../shared/data/tasks/saliency)")
    official = json.loads((folder / "SOD_dss" / "official_scores.json").read_text())["these_images"]
    curves = [
        toolbox_curves(read_grey(folder / "SOD_dss" / "maps" / f"{image.name}.png"), read_grey(image.mask))
        for image in open_masked_images(folder / "SOD")
    ]
    assert len(curves) == official["n"]
    assert toolbox_max_f(curves) == pytest.approx(official["max_f"], abs=1e-6)
    assert np.mean([curve.error for curve in curves]) == pytest.approx(official["mae"], abs=1e-6)
    for name in ("precision", "recall"):
        mean = np.mean([getattr(curve, name) for curve in curves], axis=0)[::-1]  # theirs descend
        np.testing.assert_allclose(mean, official[name], atol=1e-6)
