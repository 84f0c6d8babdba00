import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from srt_distill.data import ImageFolder
from srt_distill.data.crops import Draw, HeldOutCrops, TrainingCrops, cut_window, size_to_hold
from tests.data.pictures import picture
from tests.oracles import cut_window_of_whole


def training(folder, height=16, width=24, scale=1.0, flip=False, seed=0) -> TrainingCrops:
    return TrainingCrops(ImageFolder(folder), np.arange(11), height, width, scale, flip, seed)


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([0.3, 0.5, 1.0, 2.0]),
)
def test_resized_image_holds_the_window_and_keeps_its_shape(image_height, image_width, height, width, scale):
    rows, columns = size_to_hold(Image.new("RGB", (image_width, image_height)), height, width, scale)
    assert rows >= height and columns >= width
    factor = max(scale, height / image_height, width / image_width)
    assert abs(rows - factor * image_height) <= 1 and abs(columns - factor * image_width) <= 1


def test_image_of_the_right_size_is_left_as_it_is():
    assert size_to_hold(picture(1), 40, 56, 1.0) == (40, 56)
    assert size_to_hold(picture(1), 8, 8, 0.5) == (20, 28)


@given(st.data())
def test_window_is_cut_out_of_the_resized_image(data):
    """As resizing the whole image and cutting then, to 3 levels of 255: Pillow rounds to bytes between the two axes,
    and takes first the one that costs less. Levels are in the middle, so that nothing is clipped between them."""
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    least = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    scale = data.draw(st.sampled_from([0.3, 0.5, 0.9, 1.0, 2.0]))
    pixels = np.random.default_rng(height * 61 + width).integers(64, 192, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    size = size_to_hold(image, *least, scale)
    top, left = data.draw(st.integers(0, size[0] - least[0])), data.draw(st.integers(0, size[1] - least[1]))
    window = cut_window(image, size, top, left, *least)
    expected = cut_window_of_whole(image, size, top, left, *least)
    assert (window.short() - expected.short()).abs().max() <= 3


def test_cost_goes_with_the_window_and_not_with_the_ratio_of_sides():
    """A picture of 30000x1 pixels would be 6.9 million pixels wide when enlarged."""
    image = Image.new("RGB", (30000, 1), (9, 8, 7))
    size = size_to_hold(image, 230, 230, 1.0)
    assert size == (230, 6_900_000)
    started = time.process_time()
    window = cut_window(image, size, 0, 6_000_000, 230, 230)
    assert time.process_time() - started < 0.5
    assert window.flatten(1).unique(dim=1).flatten().tolist() == [9, 8, 7]


def test_window_is_cut_where_it_says():
    window = cut_window(picture(5), (40, 56), top=3, left=10, height=6, width=8)
    assert window.dtype == torch.uint8 and window.shape == (3, 6, 8)
    assert window[0, 0].tolist() == list(range(10, 18)) and window[1, :, 0].tolist() == list(range(3, 9))
    assert torch.equal(cut_window(picture(5), (40, 56), 3, 10, 6, 8, flip=True), window.flip(-1))


def test_crops_are_real_pixels_from_all_over_the_image(folder):
    crops = training(folder)
    tops, lefts = set(), set()
    for epoch in range(300):
        pixels, unreadable = crops[Draw(epoch, 4, 0)]
        assert not unreadable and pixels.shape == (3, 16, 24) and (pixels[2] == 4).all()
        top, left = int(pixels[1, 0, 0]), int(pixels[0, 0, 0])
        assert torch.equal(pixels, cut_window(picture(4), (40, 56), top, left, 16, 24))
        tops.add(top), lefts.add(left)
    assert tops == set(range(40 - 16 + 1)) and lefts == set(range(56 - 24 + 1))


def test_a_crop_depends_on_seed_epoch_image_and_repeat_and_on_nothing_else(folder):
    keys = [Draw(epoch, position, repeat) for epoch in range(3) for position in range(11) for repeat in range(2)]
    forward = {key: training(folder)[key].pixels for key in keys}
    backward_crops = training(folder)
    for key in reversed(keys):
        assert torch.equal(backward_crops[key].pixels, forward[key])
    corners = {(int(pixels[0, 0, 0]), int(pixels[1, 0, 0])) for pixels in forward.values()}
    assert len(corners) > 50
    other = training(folder, seed=1)
    assert sum(torch.equal(other[key].pixels, forward[key]) for key in keys) < 5
    assert torch.equal(training(folder)[3].pixels, forward[Draw(0, 3, 0)])


def test_crop_follows_the_image_when_the_part_changes(folder):
    """Holding other images out leaves the crops of those that stay."""
    fewer = TrainingCrops(ImageFolder(folder), np.array([2, 7]), 16, 24, 1.0, False, 0)
    assert torch.equal(fewer[Draw(1, 1, 0)].pixels, training(folder)[Draw(1, 7, 0)].pixels)


def test_half_of_the_crops_are_mirrored(folder):
    crops = training(folder, flip=True)
    mirrored = [int(crops[Draw(epoch, 0, 0)].pixels[0, 0, :2].float().diff().item()) for epoch in range(200)]
    assert set(mirrored) == {-1, 1} and 70 < mirrored.count(-1) < 130


def test_held_out_crop_is_the_centre(folder):
    crops = HeldOutCrops(ImageFolder(folder), np.array([8, 9]), 16, 24, 1.0)
    pixels, unreadable = crops[1]
    assert not unreadable
    assert torch.equal(pixels, cut_window(picture(9), (40, 56), 12, 16, 16, 24))


def test_scale_halves_the_image_before_it_is_cropped(folder):
    pixels = HeldOutCrops(ImageFolder(folder), np.array([0]), 20, 28, 0.5)[0].pixels
    assert pixels[0, 10, 3:-3].diff().unique().tolist() == [2]


def test_unreadable_image_is_named_and_replaced_by_different_ones(folder):
    (folder / "03.png").write_text("damaged")
    crops = training(folder)
    replacements = set()
    for epoch in range(30):
        pixels, unreadable = crops[Draw(epoch, 3, 0)]
        assert list(unreadable) == ["03.png"] and "cannot read image 03.png" in unreadable["03.png"]
        replacements.add(int(pixels[2, 0, 0]))
        assert torch.equal(pixels, crops[Draw(epoch, 3, 0)].pixels)
    assert len(replacements) > 5 and 3 not in replacements


def test_unreadable_held_out_image_is_replaced_by_the_next(folder):
    (folder / "10.png").write_text("damaged")
    pixels, unreadable = HeldOutCrops(ImageFolder(folder), np.array([8, 9, 10]), 16, 24, 1.0)[2]
    assert list(unreadable) == ["10.png"] and pixels[2, 0, 0] == 8


def test_nothing_readable_is_an_error(folder):
    for path in folder.iterdir():
        path.write_text("damaged")
    with pytest.raises(OSError, match=r"none of 11 images can be read \(cannot read image 05\.png: "):
        training(folder)[Draw(0, 5, 0)]


def test_fixed_views_are_the_crops_of_the_first_epochs_over_and_over(folder):
    fresh = training(folder)
    fixed = TrainingCrops(ImageFolder(folder), np.arange(11), 16, 24, 1.0, False, 0, views=3)
    for epoch in range(8):
        assert torch.equal(fixed[Draw(epoch, 4, 0)].pixels, fresh[Draw(epoch % 3, 4, 0)].pixels)
        assert torch.equal(fixed[Draw(epoch, 4, 2)].pixels, fixed[Draw(epoch + 2, 4, 0)].pixels)
    assert not torch.equal(fixed[Draw(0, 4, 0)].pixels, fixed[Draw(1, 4, 0)].pixels)
