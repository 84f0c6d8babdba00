"""Rules by which a run is fitted to images, model and machine."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.adaptation.budget import in_words, parse_budget
from srt_distill.adaptation.choices import (
    Sizes,
    choose_crop,
    choose_held_out,
    choose_scale,
    choose_steps,
    look_at_sizes,
    merge,
)
from srt_distill.adaptation.headroom import Headroom
from srt_distill.adaptation.machine import Machine, StepTime, fit_batch, repeat_crops
from srt_distill.data import ImageSource
from srt_distill.data.splitting import split_indices
from tests.data.pictures import picture

SIDES = st.integers(1, 5000)


@given(height=SIDES, width=SIDES, patch=st.sampled_from([7, 8, 14, 16, 32]))
def test_crops_are_whole_patches_that_the_images_hold(height, width, patch):
    sizes = Sizes(height, width, 1)
    scale = choose_scale(sizes)
    crop = choose_crop(sizes, scale, 3, patch)
    assert 0 < scale <= 1 and all(side % patch == 0 and side <= max(224, 4 * patch) for side in crop)
    for side, pixels in zip(crop, (height, width)):
        assert side == 4 * patch or side + 6 <= pixels * scale


def test_a_model_of_a_fixed_size_gets_that():
    assert choose_crop(Sizes(100, 4000, 1), 1.0, 3, 16, (256, 256)) == (256, 256)


@given(st.integers(2, 10_000))
def test_something_is_held_out_and_more_is_trained_on(count):
    held_out = choose_held_out(count)
    training, measured = split_indices(count, held_out)
    assert 1 <= len(measured) <= 16 and len(training) >= len(measured)


def test_a_single_image_is_trained_on_alone():
    assert choose_held_out(1) == 0


def test_steps_go_by_images_up_to_the_recipe():
    assert [choose_steps(count, 4, 1000) for count in (1, 57, 10_000)] == [200, 285, 1000]


@pytest.mark.parametrize(
    ("text", "steps", "seconds"),
    [(None, None, None), ("2000", 2000, None), (7, 7, None), ("30m", None, 1800), ("1.5h", None, 5400)],
)
def test_budgets(text, steps, seconds):
    budget = parse_budget(text)
    assert (budget.steps, budget.seconds) == (steps, seconds)


def test_a_budget_of_time_leaves_some_for_what_comes_after():
    assert parse_budget("30m").training_seconds == 1740
    assert parse_budget("60s").training_seconds == 30


@pytest.mark.parametrize("text", ["soon", "0", "-3", "1.5", "10d", ""])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(ValueError, match=r"neither steps nor time.*30m"):
        parse_budget(text)


def test_durations_in_words():
    assert [in_words(seconds) for seconds in (0.2, 75.0, 600.0, 7200.0)] == ["1 s", "75 s", "10 min", "2.0 h"]


def test_sizes_pass_over_what_cannot_be_read():
    class Source(ImageSource):
        def __len__(self):
            return 3

        def load(self, index):
            if index == 0:
                raise OSError("image 0 is damaged")
            return picture(index, 30 + index, 50)

        def name(self, index):
            return str(index)

    assert look_at_sizes(Source()) == Sizes(31, 50, 2)


def test_settings_are_merged_by_group_and_classes_are_replaced():
    below = {"a": {"x": 1, "y": 2}, "target": {"class_path": "A", "init_args": {"n": 1}}}
    above = {"a": {"y": 3}, "target": {"class_path": "B"}}
    assert merge(below, above) == {"a": {"x": 1, "y": 3}, "target": {"class_path": "B"}}


def test_the_batch_is_halved_until_it_fits():
    tried = []

    def step(count):
        tried.append(count)
        if count > 4:
            raise torch.OutOfMemoryError("full")
        return StepTime(0.5, 0.6)

    assert fit_batch(step, 16) == (4, StepTime(0.5, 0.6))
    assert tried == [16, 8, 4]
    assert Machine(torch.device("cuda"), "a GPU", "bf16-mixed", 4).accelerator == "gpu"


def test_what_does_not_fit_at_all_is_said():
    def step(count):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        fit_batch(step, 2)


def test_crops_are_repeated_to_fill_a_batch():
    crops = torch.arange(2, dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4)
    assert repeat_crops(crops, 5)[:, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]


def test_little_headroom_is_said():
    assert Headroom(0.13, 0.5, 6).describe().startswith("yes")
    assert "expect little" in Headroom(0.002, 0.5, 6).describe()
