"""The demo's videos: deterministic, exact, in DAVIS layout, training and validation from different photographs."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("skimage", reason="the extra 'demo' is not installed")
pytest.importorskip("sklearn", reason="the extra 'demo' is not installed")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "demo"))

import make_videos
import photos
import scene

from srt_distill.tasks.davis.sequence_scores import object_ids
from srt_distill.tasks.davis.videos import list_sequences, open_videos, read_mask

SMALL = {"num_train": 2, "num_val": 3, "train_frames": 2, "val_frames": 3, "height": 64, "width": 96}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "videos"
    make_videos.make_demo_videos(root, **SMALL)
    return root


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_same_arguments_give_the_same_files_and_another_seed_others(videos, tmp_path):
    make_videos.make_demo_videos(tmp_path / "again", **SMALL)
    assert files_of(tmp_path / "again") == files_of(videos)
    make_videos.make_demo_videos(tmp_path / "other", **SMALL, seed=1)
    first = Path("JPEGImages/480p/chelsea-00/00000.jpg")
    assert files_of(tmp_path / "other")[first] != files_of(videos)[first]


def test_layout_is_the_one_that_the_davis_evaluation_reads(videos):
    names = list_sequences(videos, "val", "2017")
    assert names == ["chelsea-00", "coffee-01", "grass-02"]
    opened = open_videos(videos, names)
    assert [len(video.frames) for video in opened] == [3, 3, 3]
    assert {video.size for video in opened} == {(64, 96)}
    assert [len(object_ids(read_mask(video.masks[0]))) for video in opened] == [2, 3, 4]
    assert len(list((videos / "JPEGImages/480p").iterdir())) == 5


def test_every_object_is_in_plain_sight_in_the_first_mask(videos):
    for index, name in enumerate(["chelsea-00", "coffee-01", "grass-02"]):
        first = read_mask(videos / f"Annotations/480p/{name}/00000.png")
        ids, areas = np.unique(first, return_counts=True)
        assert ids.tolist() == list(range(3 + index))
        assert areas.min() >= make_videos.LEAST_VISIBLE * first.size


def test_masks_are_palette_files(videos):
    with Image.open(videos / "Annotations/480p/coffee-01/00001.png") as mask:
        assert mask.mode == "P"
        assert mask.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def plain(colour, height=40, width=40):
    return torch.tensor(colour)[:, None, None].expand(3, height, width).clone()


def still(middle):
    return scene.Wave(middle)


def disc(photo, row, column, radius):
    pose = scene.Pose(still(row), still(column), still(0.0), still(1.0), still(1.0))
    return scene.Shape(photo, (20.0, 20.0), pose, radius, 1.0, (), still(0.0), (1.0, 1.0, 1.0))


def test_masks_say_who_hides_whom_to_the_pixel(monkeypatch):
    """Two overlapping discs, against their equations evaluated at every sample of every pixel."""
    monkeypatch.setattr(scene, "SENSOR_NOISE", 0.0)
    monkeypatch.setattr(scene, "SHADOW", 0.0)
    pose = scene.Pose(still(16.0), still(24.0), still(0.0), still(1.5), still(1.0))
    drawn = scene.Scene(
        height=32,
        width=48,
        photo=plain([0.0, 0.0, 1.0]),
        anchor=(20.0, 20.0),
        pose=pose,
        tint=(1.0, 1.0, 1.0),
        shapes=(disc(plain([1.0, 0.0, 0.0]), 15.0, 20.0, 9.3), disc(plain([0.0, 1.0, 0.0]), 18.2, 29.1, 7.7)),
        noise_seed=0,
    )
    image, labels = scene.render(drawn, 0.5)
    offsets = [(k + 0.5) / scene.SAMPLES - 0.5 for k in range(scene.SAMPLES)]
    for row in range(32):
        for column in range(48):
            owners = []
            for down in offsets:
                for right in offsets:
                    y, x = row + down, column + right
                    owner = 0
                    if np.hypot(y - 15.0, x - 20.0) < 9.3:
                        owner = 1
                    if np.hypot(y - 18.2, x - 29.1) < 7.7:
                        owner = 2
                    owners.append(owner)
            shares = [owners.count(label) / len(owners) for label in range(3)]
            assert labels[row, column] == int(np.argmax(shares)), (row, column)
            blue = image[row, column, 2].item() / 255
            assert blue == pytest.approx(shares[0], abs=0.003), (row, column)


def test_objects_move_and_hide_one_another(videos):
    first, last = (read_mask(videos / f"Annotations/480p/grass-02/{frame:05d}.png") for frame in (0, 2))
    for label in range(1, 5):
        overlap = ((first == label) & (last == label)).sum() / max(1, (first == label).sum())
        assert overlap < 0.95


def test_train_and_validation_share_no_photograph():
    assert not set(photos.PHOTOS["train"]) & set(photos.PHOTOS["val"])
    scenes = {"motorcycle_left": "motorcycle_right", "motorcycle_right": "motorcycle_left"}  # one scene, two eyes
    val = {Path(file).stem for file in photos.PHOTOS["val"]}
    assert not {scenes.get(Path(file).stem) for file in photos.PHOTOS["train"]} & val


def test_a_folder_of_something_else_is_not_overwritten(videos, tmp_path):
    before = files_of(videos)
    make_videos.make_demo_videos(videos, **SMALL)
    assert files_of(videos) == before
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match=r"already holds something else .* name another folder"):
        make_videos.make_demo_videos(tmp_path, **SMALL)
    with pytest.raises(FileExistsError):
        make_videos.make_demo_videos(videos, **SMALL, seed=3)


def test_a_photograph_that_no_wheel_holds_is_a_clear_error():
    with pytest.raises(FileNotFoundError, match=r"skimage/data/eagle.png is not among the installed packages.*demo"):
        photos.load_photo("skimage/data/eagle.png")
    with pytest.raises(FileNotFoundError, match="no_such_package"):
        photos.load_photo("no_such_package/data/cat.png")
