"""Reading the DAVIS layout: what is found, what is refused and with which words."""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srt_distill.tasks.davis.videos import (
    list_sequences,
    network_size,
    open_video,
    open_videos,
    read_ahead,
    read_frame,
    read_mask,
    resize_frame,
)


@pytest.fixture
def davis(tiny_davis: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(tiny_davis, tmp_path / "davis")


def test_videos_are_found_with_their_masks(tiny_davis: Path) -> None:
    assert list_sequences(tiny_davis) == ["cats", "dogs"]
    cats, dogs = open_videos(tiny_davis, ["cats", "dogs", "cats"])
    assert (cats.name, len(cats.frames), cats.size) == ("cats", 5, (64, 96))
    assert [path.name for path in dogs.masks] == [f"{t:05d}.png" for t in range(5)]


def test_an_unknown_name_far_from_all_lists_what_there_is(davis: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'blackswan'.*available: ants, bees, cats, dogs"):
        open_video(davis, "blackswan")
    with pytest.raises(FileNotFoundError, match="no DAVIS folder at .*nowhere"):
        open_video(davis / "nowhere", "cats")


def test_an_empty_list_is_refused(davis: Path) -> None:
    (davis / "ImageSets/2017/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt"):
        list_sequences(davis)


def test_a_video_with_a_later_mask_missing_is_refused(davis: Path) -> None:
    (davis / "Annotations/480p/cats/00003.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of 5 masks \(first: 00003\.png\)"):
        open_video(davis, "cats")


@pytest.mark.parametrize("path", ["JPEGImages/480p/cats/00002.jpg", "Annotations/480p/cats/00004.png"])
def test_sizes_that_differ_are_refused(davis: Path, path: str) -> None:
    Image.new("L", (80, 48)).save(davis / path)
    with pytest.raises(ValueError, match=r"sizes differ.*0000[24].* is 80x48 pixels.*96x64"):
        open_video(davis, "cats")


@pytest.mark.parametrize("value", [0, 255])
def test_a_first_mask_without_objects_is_refused(davis: Path, value: int) -> None:
    Image.fromarray(np.full((64, 96), value, dtype=np.uint8)).save(davis / "Annotations/480p/cats/00000.png")
    with pytest.raises(ValueError, match=r"holds no object; give objects the ids 1, 2"):
        open_video(davis, "cats")


def test_too_short_a_video_is_refused(davis: Path) -> None:
    for t in (2, 3, 4):
        (davis / f"JPEGImages/480p/cats/{t:05d}.jpg").unlink()
    with pytest.raises(ValueError, match="'cats' has 2 frames"):
        open_video(davis, "cats")


@pytest.mark.parametrize("mode", ["P", "L", "1", "I;16"])
def test_ids_are_read_from_every_fitting_mode(tmp_path: Path, mode: str) -> None:
    ids = np.zeros((5, 7), dtype=np.uint8)
    ids[2, 3] = 1
    image = {
        "P": lambda: Image.fromarray(ids, mode="P"),
        "L": lambda: Image.fromarray(ids),
        "1": lambda: Image.fromarray(ids > 0),
        "I;16": lambda: Image.fromarray(ids.astype(np.uint16)),
    }[mode]()
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), ids)


@pytest.mark.parametrize(
    ("size", "patch", "scale", "multiple", "expected"),
    [
        ((1080, 1920), 16, 1.0, 64, (480, 832)),
        ((480, 854), 16, 1.0, 16, (480, 848)),
        ((480, 854), 32, 1.0, 64, (480, 832)),
        ((160, 240), 16, 1.0, 64, (480, 704)),  # enlarged
        ((480, 480), 16, 1.0, 64, (480, 448)),  # the script cuts the width of squares, too
        ((100, 110), 16, 0.1, 64, (48, 64)),  # never less than one multiple
    ],
)
def test_network_size(
    size: tuple[int, int], patch: int, scale: float, multiple: int, expected: tuple[int, int]
) -> None:
    assert network_size(size, patch, scale, multiple) == expected


def test_a_scale_below_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scale 0\.01 leaves a short side of 4\.8 pixels, less than a patch of 16"):
        network_size((480, 854), 16, 0.01)


def test_frames_are_resized_in_8_bits() -> None:
    frame = np.zeros((4, 6, 3), dtype=np.uint8)
    frame[:, 3:] = (255, 100, 0)
    same = resize_frame(frame, (4, 6))
    np.testing.assert_array_equal(same.permute(1, 2, 0).numpy(), frame)
    wide = resize_frame(frame, (4, 12))
    assert wide.dtype == torch.uint8
    assert wide[0, 0].tolist() == [0] * 5 + [64, 191] + [255] * 5  # a quarter, rounded


def test_real_frames_are_read_as_rgb(shared_data: Path) -> None:
    frame = read_frame(shared_data / "DAVIS/JPEGImages/480p/blackswan/00000.jpg")
    assert (frame.shape, frame.dtype) == ((480, 854, 3), np.uint8)


def test_reading_ahead_keeps_order_and_works_ahead() -> None:
    loaded: list[int] = []
    lock = threading.Lock()

    def load(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        with lock:
            loaded.append(item)
        return item * item

    results = read_ahead(load, range(20), num_workers=2)
    assert next(results) == 0
    deadline = time.monotonic() + 10
    while len(loaded) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert 5 <= len(loaded) <= 6  # two a worker and the one handed out, no more
    assert list(results) == [item * item for item in range(1, 20)]


def test_an_error_while_reading_ahead_reaches_the_caller() -> None:
    def load(item: int) -> int:
        if item == 3:
            raise OSError("file 3 is torn")
        return item

    results = read_ahead(load, range(10), num_workers=1)
    with pytest.raises(OSError, match="file 3 is torn"):
        list(results)
