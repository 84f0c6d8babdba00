import numpy as np
import pytest
from PIL import Image

from srt_distill.visualization.overlays import mask_outlines, object_palette, overlay_mask

SQUARE = np.zeros((9, 9), np.uint8)
SQUARE[2:7, 2:7] = 1


def test_palette_is_the_one_in_real_davis_masks(shared_data):
    path = next((shared_data / "DAVIS" / "Annotations").rglob("*.png"))
    stored = np.array(Image.open(path).getpalette()).reshape(-1, 3)
    used = np.flatnonzero(stored.any(1))
    assert len(used) >= 2
    assert np.array_equal(object_palette()[used], stored[used])


def test_palette_starts_with_the_published_colours():
    expected = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert [tuple(color) for color in object_palette()[:7]] == expected
    assert len(np.unique(object_palette(), axis=0)) == 256


def test_outline_is_the_inner_rim_of_the_object():
    expected = SQUARE.astype(bool)
    expected[3:6, 3:6] = False
    assert np.array_equal(mask_outlines(SQUARE), expected)
    assert mask_outlines(SQUARE, width=2).sum() == 24
    assert not mask_outlines(SQUARE, width=0).any()


def test_touching_objects_are_parted_and_the_border_of_the_frame_is_no_outline():
    mask = np.ones((4, 6), np.uint8)
    mask[:, 3:] = 2
    assert np.array_equal(np.flatnonzero(mask_outlines(mask).any(0)), [2, 3])


def test_overlay_tints_objects_and_leaves_the_background():
    frame = np.full((9, 9, 3), 100, np.uint8)
    picture = overlay_mask(frame, SQUARE, opacity=0.5, outline_width=1)
    assert np.array_equal(picture[SQUARE == 0], frame[SQUARE == 0])
    assert tuple(picture[4, 4]) == (114, 50, 50)
    assert tuple(picture[2, 2]) == (255, 0, 0)
    assert (frame == 100).all()


def test_sizes_and_opacity_are_checked():
    with pytest.raises(ValueError, match="frame is 9x8 pixels but its mask is 9x9"):
        overlay_mask(np.zeros((9, 8, 3), np.uint8), SQUARE)
    with pytest.raises(ValueError, match=r"opacity 1\.5 is outside"):
        overlay_mask(np.zeros((9, 9, 3), np.uint8), SQUARE, opacity=1.5)
