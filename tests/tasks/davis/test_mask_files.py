"""Masks on disk: the right colours, and scores of masks that others made."""

import numpy as np
import pytest
from PIL import Image

from srt_distill.tasks.davis import score_masks, write_mask
from srt_distill.tasks.davis.sequence_scores import pool


def test_masks_look_like_real_ones(shared_data, tmp_path):
    with Image.open(shared_data / "DAVIS/Annotations/480p/libby/00000.png") as real:
        write_mask(tmp_path / "mask.png", np.array(real))
        with Image.open(tmp_path / "mask.png") as ours:
            assert ours.convert("RGB").tobytes() == real.convert("RGB").tobytes()


def test_predictions_of_another_size_or_missing_are_refused(tiny_davis, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cats.00001\.png"):
        score_masks(tmp_path, tiny_davis)
    for t in range(5):
        write_mask(tmp_path / f"cats/{t:05d}.png", np.zeros((48, 80), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"is 80x48 pixels, the ground truth 96x64"):
        score_masks(tmp_path, tiny_davis, sequences=["cats"])


def test_a_perfect_prediction_scores_one(tiny_davis):
    scored = score_masks(tiny_davis / "Annotations/480p", tiny_davis)
    scores = pool([pair for objects in scored.values() for pair in objects.values()])
    assert scores["J&F-Mean"] == 1.0 and scores["F-Decay"] == 0.0
