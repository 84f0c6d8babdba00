"""`srt-distill overlay`: masks of an evaluation over their videos."""

import shutil

import numpy as np
from PIL import Image

from srt_distill.cli import main


def words(davis, masks, output):
    return ["overlay", "--davis", str(davis), "--masks", masks, "--output", str(output), "--sequences", "[cats]"]


def test_sheet_video_and_gif_of_each_sequence(tiny_davis, tmp_path, capsys):
    truth = tiny_davis / "Annotations" / "480p"
    assert main([*words(tiny_davis, f"{{mine: {truth}}}", tmp_path), "--num_shown", "2"]) == 0
    names = ["cats.png", "cats.mp4", "cats.gif"]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    sheet = np.asarray(Image.open(tmp_path / "cats.png"))
    left, right = sheet[:, -2 * 96 - 6 : -96 - 6], sheet[:, -96:]
    assert np.array_equal(left[-64:], right[-64:]), "the ground truth beside itself"
    assert Image.open(tmp_path / "cats.gif").n_frames == 5

    assert main([*words(tiny_davis, f"{{mine: {truth}}}", tmp_path / "alone"), "--ground_truth", "false"]) == 0
    assert Image.open(tmp_path / "alone" / "cats.png").width < sheet.shape[1] - 90


def test_missing_masks_are_counted_and_named(tiny_davis, tmp_path, capsys):
    masks = shutil.copytree(tiny_davis / "Annotations" / "480p" / "cats", tmp_path / "masks" / "cats").parent
    for name in ("00002.png", "00003.png"):
        (masks / "cats" / name).unlink()
    assert main(words(tiny_davis, f"{{mine: {masks}}}", tmp_path / "out")) == 1
    said = capsys.readouterr().err
    assert "2 masks are missing" in said and "00002.png" in said
    assert not (tmp_path / "out").exists()


def test_only_the_masks_that_are_drawn_are_asked_for(tiny_davis, tmp_path):
    root = tmp_path / "davis"
    shutil.copytree(tiny_davis / "JPEGImages" / "480p" / "cats", root / "JPEGImages" / "480p" / "cats")
    masks = tiny_davis / "Annotations" / "480p"
    assert main([*words(root, f"{{mine: {masks}}}", tmp_path / "out"), "--ground_truth", "false"]) == 0
    assert (tmp_path / "out" / "cats.png").is_file()
    assert main(words(root, f"{{mine: {masks}}}", tmp_path / "other")) == 1


def test_one_folder_of_masks_is_captioned_by_its_name(tiny_davis, tmp_path):
    assert main(words(tiny_davis, str(tiny_davis / "Annotations" / "480p"), tmp_path / "out")) == 0
    assert (tmp_path / "out" / "cats.png").is_file()
