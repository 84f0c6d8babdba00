import numpy as np
import pytest
import torch

from srt_distill.visualization.panels import contact_sheet, panel_grid, resize_picture, to_picture

RED, BLUE = (np.full((20, 30, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == color).all(-1).sum())


def test_colors_become_bytes_with_rounding_and_clipping():
    colors = torch.tensor([0.0, 0.5, 2.0])[:, None, None].expand(3, 2, 4)
    assert to_picture(colors).shape == (2, 4, 3)
    assert tuple(to_picture(colors)[1, 3]) == (0, 128, 255)


def test_blocks_stay_sharp_and_photographs_are_filtered():
    checks = np.zeros((2, 2, 3), np.uint8)
    checks[0, 0] = checks[1, 1] = 255
    assert set(np.unique(resize_picture(checks, 8, 8, blocks=True))) == {0, 255}
    assert len(np.unique(resize_picture(checks, 8, 8))) > 2


def test_grid_shows_every_picture_whole_and_nothing_else_in_colour():
    grid = panel_grid([[RED, BLUE], [BLUE, None]])
    assert grid.shape == (46, 66, 3)
    assert count(grid, (255, 0, 0)) == 600
    assert count(grid, (0, 0, 255)) == 1200


def test_captions_take_room_above_and_beside_but_never_cover_pictures():
    grid = panel_grid([[RED, BLUE]], columns=["teacher", "a caption that must be wrapped"], row_names=["layer 11"])
    assert count(grid, (255, 0, 0)) == count(grid, (0, 0, 255)) == 600
    assert grid.shape[0] > 20 + 3 * 11 and grid.shape[1] > 66 + 40
    assert (grid[: grid.shape[0] - 20] < 128).all(-1).any(), "no ink above the pictures"
    assert (grid[-20:, : grid.shape[1] - 66] < 128).all(-1).any(), "no ink beside the pictures"
    assert (grid[:, 0] == 255).all() or count(grid[:, :1], (255, 0, 0)) == 0


def test_contact_sheet_shrinks_all_to_one_width():
    sheet = contact_sheet([RED, np.repeat(np.repeat(BLUE, 2, 0), 2, 1)], num_columns=2, width=15)
    assert count(sheet, (255, 0, 0)) == count(sheet, (0, 0, 255)) == 150
    with_captions = contact_sheet([RED, BLUE], ["one", "two"], num_columns=1, width=60)
    assert count(with_captions, (255, 0, 0)) == 60 * 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "no picture given"),
        (([[None]],), "no picture given"),
        (([[RED]], ["a", "b"]), "2 column captions for 1 columns"),
        (([[RED]], [], ["a", "b"]), "2 row captions for 1 rows"),
    ],
)
def test_grids_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        panel_grid(*arguments)


def test_contact_sheet_wants_one_caption_a_picture():
    with pytest.raises(ValueError, match="1 captions for 2 pictures"):
        contact_sheet([RED, BLUE], ["one"])
