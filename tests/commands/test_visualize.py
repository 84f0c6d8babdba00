"""`srt-distill visualize` with variants of SRT, and how far they are to be trusted."""

import numpy as np
from PIL import Image

from srt_distill.cli import main


def draw(folder, photo, output, *words):
    sizes = ["--srt", "1", "--short_side", "32", "--execution.device", "cpu"]
    return main(
        ["visualize", "--backbone", str(folder), "--sources", f"[{photo}]", "--output", str(output), *sizes, *words]
    )


def test_srt_at_pixel_resolution_adds_the_figure_beside_resized_features(tiny_folder, tiny_davis, tmp_path, capsys):
    photo = tiny_davis / "JPEGImages" / "480p" / "cats" / "00000.jpg"
    assert draw(tiny_folder, photo, tmp_path, "--srt.grid", "pixels") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"00000-pca.png", "00000-noise.png", "00000-resized.png"}
    figure = np.asarray(Image.open(tmp_path / "00000-pca.png"))[-32:]
    single, srt = figure[:, 54:102], figure[:, 108:]
    assert (single.reshape(4, 8, 6, 8, 3) == single[::8, ::8].reshape(4, 1, 6, 1, 3)).all(), "tokens are sharp blocks"
    assert not (srt.reshape(4, 8, 6, 8, 3) == srt[::8, ::8].reshape(4, 1, 6, 1, 3)).all(), "SRT is finer"


def test_a_grid_that_does_not_divide_the_patch_is_refused(tiny_folder, tiny_davis, tmp_path, capsys):
    photo = tiny_davis / "JPEGImages" / "480p" / "cats" / "00000.jpg"
    assert draw(tiny_folder, photo, tmp_path, "--srt.grid", "3") == 1
    assert "3 does not divide the patch side 8" in capsys.readouterr().err


def test_confidence_and_a_resumed_network_are_drawn(tiny_folder, tiny_davis, tmp_path):
    photo = tiny_davis / "JPEGImages" / "480p" / "cats" / "00000.jpg"
    words = ["--confidence", "true", "--srt.resume_at=-1", "--srt.scales", "3"]
    assert draw(tiny_folder, photo, tmp_path, *words) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"00000-pca.png", "00000-noise.png", "00000-confidence.png"}
    heat = np.asarray(Image.open(tmp_path / "00000-confidence.png"))[-32:, 54:102]
    assert (heat.reshape(4, 8, 6, 8, 3) == heat[::8, ::8].reshape(4, 1, 6, 1, 3)).all(), "one value a token"
    assert len(np.unique(heat[::8, ::8].reshape(-1, 3), axis=0)) > 4
