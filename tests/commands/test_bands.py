"""A backbone of six channels, from its images to its pictures, by the commands that people call."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from srt_distill.backbone import FeatureExtractor, backbone_normalization, build_backbone, load_backbone, save_backbone
from srt_distill.cli import main
from srt_distill.images import Normalization
from srt_distill.runs import ThroughReadout, load_run
from tests.data.pictures import picture

MEAN, STD = (0.3, 0.3, 0.3, 0.2, 0.2, 0.2), (0.25,) * 6
WHITE = 10000


def backbone(folder, channels):
    torch.manual_seed(0)
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "in_chans": channels}
    model = build_backbone({"architecture": "vit_tiny_patch16_224", "model_args": size, "num_classes": 0})
    save_backbone(model, folder)
    return folder


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Images of six bands of 16 bits, a backbone for them without a mean of six, and a run with one that was given."""
    root = tmp_path_factory.mktemp("bands")
    random = np.random.default_rng(0)
    (root / "images").mkdir()
    for number in range(6):
        coarse = random.random((6, 7, 6)).repeat(8, 0).repeat(8, 1) * WHITE
        np.save(root / "images" / f"{number}.npy", coarse.astype(np.uint16))
    backbone(root / "six", 6)
    words = ["--model.backbone", f"local-dir:{root / 'six'}", "--model.srt.radius", "1", "--trainer.max_steps", "2"]
    words += ["--model.backbone.mean", str(list(MEAN)), "--model.backbone.std", "[0.25]"]
    words += ["--data.source", "ImageFolder", "--data.source.root", str(root / "images")]
    words += ["--data.source.num_channels", "6", "--data.source.white", str(WHITE), "--data.crop_size", "32"]
    words += ["--data.batch_size", "2", "--data.num_workers", "0", "--data.held_out", "2", "--data.views", "2"]
    words += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *words, "--trainer.default_root_dir", str(root / "run")]) == 0
    return root, words


def test_a_run_keeps_the_mean_that_was_given(scene):
    root, _ = scene
    run = load_run(root / "run")
    assert run.step == 2 and "val/gap_closed" in run.scores
    assert backbone_normalization(run.student) == Normalization(MEAN, STD)


def test_targets_of_bands_are_cached_and_read(scene, capsys):
    root, words = scene
    assert main(["cache", *words, "--output", str(root / "targets")]) == 0
    cached = ["--model.target", "CachedShifts", "--model.target.folder", str(root / "targets")]
    assert main(["fit", *words, *cached, "--trainer.default_root_dir", str(root / "cached")]) == 0
    for run in (load_run(root / "run"), load_run(root / "cached")):
        assert run.step == 2
    assert "8 crops" in capsys.readouterr().out


def test_an_export_of_bands_gives_its_own_features(scene, tmp_path):
    root, _ = scene
    export = root / "export"
    assert main(["export", "--checkpoint", str(root / "run"), "--output", str(export), "--formats", "[timm]"]) == 0
    assert backbone_normalization(load_backbone(f"local-dir:{export}")) == Normalization(MEAN, STD)
    words = ["--images", str(root / "images"), "--dense", "--short_side", "32", "--white", str(WHITE)]
    assert main(["embed", "--backbone", str(export), *words, "--output", str(tmp_path / "f.safetensors")]) == 0
    found = load_file(tmp_path / "f.safetensors")
    assert sorted(found) == [f"{number}.npy" for number in range(6)]

    pixels = torch.from_numpy(np.load(root / "images" / "1.npy")[::1].astype(np.float32) / WHITE)
    image = torch.nn.functional.interpolate(
        pixels.permute(2, 0, 1)[None], (32, 40), mode="bilinear", antialias=True, align_corners=False
    )
    normalized = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.inference_mode():
        extract = FeatureExtractor(load_run(root / "run").student)
        wanted = ThroughReadout(extract, (-1,), "pyramid")(normalized)[0][0]
    np.testing.assert_allclose(found["1.npy"], wanted, atol=1e-3)


def test_pictures_say_which_bands_they_show(scene, tmp_path, monkeypatch):
    root, _ = scene
    from srt_distill.visualization import figures

    captions = []
    grid = figures.panel_grid
    monkeypatch.setattr(
        figures, "panel_grid", lambda rows, columns, names: captions.append(columns) or grid(rows, columns, names)
    )
    words = [str(root / "images" / "0.npy"), "--srt.radius", "1", "--short_side", "32", "--white", str(WHITE)]
    assert main(["visualize", "--backbone", str(root / "run"), "--sources", *words, "--output", str(tmp_path)]) == 0
    assert (tmp_path / "0-pca.png").is_file()
    assert {columns[0] for columns in captions} == {"image (channels 0, 1, 2 of 6)"}


def test_channels_that_do_not_fit_are_refused_in_words(scene, tiny_folder, tmp_path, capsys):
    root, words = scene
    fit = ["fit", *words, "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main([*fit, "--model.backbone", f"local-dir:{tiny_folder}", "--model.backbone.mean", "[0.5]"]) == 1
    assert "takes images of 3 channels, ImageFolder gives 6; set data.source.num_channels=3" in capsys.readouterr().err
    assert main([*fit, "--model.backbone.mean", "[0.1, 0.2]"]) == 1
    assert "mean has 2 values" in capsys.readouterr().err
    picture(0).save(tmp_path / "rgb.png")
    adapt = ["--backbone", str(root / "six"), "--images", str(tmp_path), "--output", str(tmp_path / "adapted")]
    assert main(["adapt", *adapt]) == 1
    assert "6 channels, adapt reads images of 3; use fit" in capsys.readouterr().err
    images = ["--images", str(root / "images"), "--output", str(tmp_path / "f.parquet")]
    assert main(["embed", "--backbone", str(tiny_folder), *images, "--white", "1000"]) == 1
    assert "white=1000.0 is for images of other than 3 channels" in capsys.readouterr().err


def test_grey_images_for_a_grey_backbone(tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for number in range(2):
        grey = np.random.default_rng(number).integers(0, 2**16, (40, 48)).astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / "images" / f"{number}.png")
    words = ["--backbone", str(backbone(tmp_path / "grey", 1)), "--backbone.mean", "[0.5]", "--backbone.std", "[0.2]"]
    words += ["--images", str(tmp_path / "images"), "--output", str(tmp_path / "f.safetensors"), "--short_side", "32"]
    assert main(["embed", *words]) == 0
    assert load_file(tmp_path / "f.safetensors")["features"].shape == (2, 24)


@pytest.mark.slow
def test_every_format_takes_bands(scene, tmp_path):
    root, _ = scene
    words = ["--checkpoint", str(root / "run"), "--output", str(tmp_path / "all")]
    assert main(["export", *words, "--formats", "[timm, transformers, onnx, torch_export]"]) == 0
    proofs = json.loads((tmp_path / "all" / "parity.json").read_text())["proofs"]
    assert len(proofs) >= 4
