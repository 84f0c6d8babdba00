"""Heads: reproducible, any mixture of sizes, outside randomness untouched; images onto canvases and outputs back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from srt_distill.images import Normalization
from srt_distill.tasks.canvas import Placement, pad_to_patch, read_bytes, shift_pixels
from srt_distill.tasks.heads import HeadTraining, Sample, rate_factor, spread_evenly, train_head

PLAIN = Normalization((0.5, 0.25, 0.1), (1.0, 1.0, 1.0))


def samples():
    """Maps of two sizes whose first channel is the target, in a canvas of 4 pixels per token."""
    draws = torch.Generator().manual_seed(1)
    made = []
    for rows, columns in ((4, 6), (4, 6), (5, 3), (4, 6)):
        features = torch.randn(3, rows, columns, generator=draws)
        target = F.interpolate(features[None, :1], scale_factor=4, mode="bilinear")[0, 0]
        made.append(Sample((features,), target, Placement((4 * rows, 4 * columns))))
    return made


def train(seed, **options):
    settings = HeadTraining(**{"steps": 60, "learning_rate": 0.1, "batch_size": 2, **options})
    return train_head(
        lambda channels: nn.Conv2d(channels[0], 1, 1),
        samples(),
        lambda output, target, step: (output[:, 0] - target).square().mean(),
        settings,
        seed,
        torch.device("cpu"),
    )


def test_a_head_learns_from_images_of_several_sizes_and_only_its_seed_matters():
    before = torch.random.get_rng_state()
    state = train(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.allclose(state["weight"].flatten(), torch.tensor([1.0, 0.0, 0.0]), atol=0.1)
    torch.rand(7)
    again, other = train(0), train(1)
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert not torch.equal(state["weight"], other["weight"])


def test_a_loss_that_is_no_number_ends_the_training():
    with pytest.raises(FloatingPointError, match="learning rate"):
        train(0, learning_rate=1e30)


@pytest.mark.parametrize("name", ["steps", "batch_size", "seeds"])
def test_options_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} 0"):
        HeadTraining(**{name: 0})


def test_the_rate_rises_and_falls():
    factors = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert 0 < factors[-1] < 0.001


def test_evenly_spread_values():
    assert spread_evenly(list(range(10)), 3) == [0, 3, 6]
    assert spread_evenly([1, 2], 5) == spread_evenly([1, 2], None) == [1, 2]


def test_an_image_is_padded_all_round_with_its_mean_colour():
    image = torch.full((1, 3, 13, 16), 200, dtype=torch.uint8)
    canvas, placement = pad_to_patch(image, 8, PLAIN, "crop")
    assert canvas.shape == (1, 3, 16, 16)
    assert placement == Placement((16, 16), (1, 0, 13, 16))  # an odd row goes to the bottom
    assert canvas[0, :, 0, 0].tolist() == canvas[0, :, 14, 5].tolist() == [128, 64, 26]
    assert canvas[0, :, 1:14].unique().tolist() == [200]
    assert pad_to_patch(image, 8, PLAIN, "stretch")[1] == Placement((16, 16))
    untouched, placement = pad_to_patch(image[..., :8, :], 8, PLAIN, "crop")
    assert untouched.shape[-2:] == (8, 16)
    assert placement.box is None


def test_cropping_finds_pixels_where_they_are_and_stretching_does_not():
    column = torch.linspace(0, 1, 16).view(1, 1, 16, 1).expand(1, 1, 16, 8).contiguous()
    cropped = Placement((16, 8), (1, 0, 13, 8)).onto(column, (13, 8))
    assert torch.allclose(cropped[0, 0, :, 0], column[0, 0, 1:14, 0])
    stretched = Placement((16, 8)).onto(column, (13, 8))
    assert stretched[0, 0, 0, 0] < cropped[0, 0, 0, 0]


def test_pixels_move_down_and_right_with_edges_repeated(generator):
    image = torch.randint(0, 255, (1, 3, 9, 7), dtype=torch.uint8, generator=generator)
    moved = shift_pixels(image, (2, -1))
    for y in range(9):
        for x in range(7):
            assert torch.equal(moved[..., y, x], image[..., min(max(y - 2, 0), 8), min(max(x + 1, 0), 6)])


def test_the_short_side_is_resized(tmp_path):
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    assert read_bytes(tmp_path / "a.png", 21).shape == (1, 3, 21, 32)
    assert read_bytes(tmp_path / "a.png").dtype == torch.uint8
