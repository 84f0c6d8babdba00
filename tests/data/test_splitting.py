import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.data.splitting import RUN_LENGTH, count_held_out, split_indices


@st.composite
def sizes(draw) -> tuple[int, int]:
    num_images = draw(st.integers(1, 3000))
    return num_images, draw(st.integers(0, num_images - 1))


@given(sizes())
def test_parts_are_disjoint_complete_and_of_the_size_asked_for(size):
    num_images, num_held_out = size
    training, held_out = split_indices(num_images, num_held_out)
    assert len(held_out) == num_held_out
    assert np.array_equal(np.sort(np.concatenate([training, held_out])), np.arange(num_images))


@given(sizes())
def test_held_out_images_have_held_out_neighbours(size):
    """Few training images touch the held-out part: at most two a run, and runs are not short."""
    num_images, num_held_out = size
    training, held_out = split_indices(num_images, num_held_out)
    touching = np.isin(held_out - 1, training) | np.isin(held_out + 1, training)
    assert touching.sum() <= 2 * max(1, round(num_held_out / RUN_LENGTH))


def test_runs_are_spread_over_the_source():
    _, held_out = split_indices(6400, 320)
    starts = held_out[np.diff(held_out, prepend=-2) > 1]
    assert np.array_equal(np.diff(starts), np.full(39, 160))
    assert np.array_equal(split_indices(200, 8)[1], np.arange(192, 200))


@pytest.mark.parametrize(
    ("num_images", "held_out", "count"),
    [(100, 0.05, 5), (100, 0, 0), (100, 0.0, 0), (10, 0.01, 1), (10, 1, 1), (3, 2, 2)],
)
def test_count(num_images, held_out, count):
    assert count_held_out(num_images, held_out) == count


@pytest.mark.parametrize("held_out", [-1, -0.1, 1.0, 1.5])
def test_nonsense_is_refused(held_out):
    with pytest.raises(ValueError, match=f"held_out={held_out} must be a share in"):
        count_held_out(10, held_out)


@pytest.mark.parametrize(("num_images", "held_out"), [(10, 10), (10, 0.96), (1, 0.05), (5, 6)])
def test_something_must_be_left_to_train_on(num_images, held_out):
    with pytest.raises(ValueError, match=rf"held_out={held_out} keeps \d+ of {num_images} images out and leaves none"):
        count_held_out(num_images, held_out)
