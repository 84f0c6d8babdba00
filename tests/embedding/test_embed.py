"""Features in a file: equal to those read one by one, named, resumed, in both formats."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from safetensors import safe_open
from safetensors.numpy import load_file

from srt_distill import embed
from srt_distill.backbone import FeatureExtractor, backbone_normalization, load_backbone
from srt_distill.cli import main
from srt_distill.ensemble.options import SRTOptions
from tests.adaptation.collections_of_images import photograph


@pytest.fixture
def pictures(tmp_path):
    """Pictures of two sizes, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        photograph(number).resize((60, 50) if number < 3 else (40, 64)).save(folder / f"{number}.png")
    (folder / "9.png").write_bytes(b"no picture")
    return folder


def expected(folder, path, short_side=32):
    """The map of one image, by hand."""
    model = load_backbone(f"local-dir:{folder}")
    image = Image.open(path)
    scale = min(1, short_side / min(image.size))
    size = [max(8, round(side * scale / 8) * 8) for side in image.size]
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).copy()
    images = backbone_normalization(model)(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    with torch.inference_mode():
        return FeatureExtractor(model)(images)[0][0].numpy()


@pytest.mark.filterwarnings("ignore:cannot read image")
def test_dense_features_are_those_of_each_image(tiny_folder, pictures, tmp_path):
    done = embed(str(tiny_folder), pictures, tmp_path / "f.safetensors", pooling="dense", short_side=32, progress=False)
    assert (done.num_images, done.num_unreadable) == (5, 1)
    found = load_file(done.output)
    assert sorted(found) == [f"{number}.png" for number in range(5)]
    for name, features in found.items():
        np.testing.assert_allclose(features, expected(tiny_folder, pictures / name), atol=1e-4)
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.filterwarnings("ignore:cannot read image")
def test_both_formats_hold_the_same_vectors_and_names(tiny_folder, pictures, tmp_path):
    for ending in ("safetensors", "parquet"):
        embed(str(tiny_folder), pictures, tmp_path / f"f.{ending}", short_side=32, progress=False)
    with safe_open(tmp_path / "f.safetensors", "numpy") as file:
        vectors, names = file.get_tensor("features"), json.loads(file.metadata()["names"])
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table["name"].to_pylist() == names and vectors.shape == (5, 24)
    np.testing.assert_array_equal(np.array(table["features"].to_pylist(), np.float32), vectors)
    by_hand = expected(tiny_folder, pictures / names[4]).mean((1, 2))
    np.testing.assert_allclose(vectors[4], by_hand, atol=1e-4)


@pytest.mark.filterwarnings("ignore:cannot read image")
def test_dense_parquet_tells_shapes(tiny_folder, pictures, tmp_path):
    options = {"pooling": "dense", "short_side": 32, "half": True, "progress": False}
    for ending in ("safetensors", "parquet"):
        embed(str(tiny_folder), pictures, tmp_path / f"f.{ending}", **options)
    maps = load_file(tmp_path / "f.safetensors")
    for row in parquet.read_table(tmp_path / "f.parquet").to_pylist():
        shape = row["channels"], row["height"], row["width"]
        np.testing.assert_array_equal(np.array(row["features"], np.float16).reshape(shape), maps[row["name"]])


def test_a_killed_call_goes_on_with_what_is_finished(tiny_folder, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr("srt_distill.embedding.extraction.IMAGES_PER_PART", 4)
    options = {"short_side": 32, "num_workers": 0, "progress": False}
    whole = embed(str(tiny_folder), photographs, tmp_path / "whole.safetensors", **options)
    from srt_distill.embedding.loading import load_batches

    calls = []

    def die_in_the_second_part(images, *arguments):
        calls.append(list(images.numbers))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return load_batches(images, *arguments)

    monkeypatch.setattr("srt_distill.embedding.extraction.load_batches", die_in_the_second_part)
    with pytest.raises(KeyboardInterrupt):
        embed(str(tiny_folder), photographs, tmp_path / "killed.safetensors", **options)
    assert not (tmp_path / "killed.safetensors").exists()
    with pytest.raises(ValueError, match=r"other settings \(half\)"):
        embed(str(tiny_folder), photographs, tmp_path / "killed.safetensors", half=True, **options)
    resumed = embed(str(tiny_folder), photographs, tmp_path / "killed.safetensors", **options)
    assert [numbers[0] for numbers in calls] == [0, 4, 4, 8]
    assert resumed.num_images == 10
    np.testing.assert_array_equal(load_file(resumed.output)["features"], load_file(whole.output)["features"])


def test_class_tokens_and_srt(tiny_folder, photographs, tmp_path):
    options = {"short_side": 32, "progress": False}
    vectors = {}
    for name, more in {"class": {"pooling": "class"}, "mean": {}, "srt": {"srt": SRTOptions(1)}}.items():
        embed(str(tiny_folder), photographs, tmp_path / f"{name}.safetensors", **more, **options)
        vectors[name] = load_file(tmp_path / f"{name}.safetensors")["features"]
    assert {value.shape for value in vectors.values()} == {(10, 24)}
    assert not np.allclose(vectors["class"], vectors["mean"]) and not np.allclose(vectors["srt"], vectors["mean"])


@pytest.mark.filterwarnings("ignore:cannot read image")
def test_a_readout_is_of_maps_alone(tiny_folder, pictures, tmp_path):
    student = tmp_path / "student"
    shutil.copytree(tiny_folder, student)
    (student / "parity.json").write_text(json.dumps({"readout": "pyramid"}))
    for pooling in ("dense", "mean", "class"):
        ours, plain = (
            load_file(
                embed(
                    str(folder),
                    pictures,
                    tmp_path / f"{folder.name}.safetensors",
                    pooling=pooling,
                    short_side=32,
                    progress=False,
                ).output
            )
            for folder in (student, tiny_folder)
        )
        for name, features in plain.items():
            if pooling == "dense":
                assert len(ours[name]) == 2 * len(features)
                np.testing.assert_allclose(ours[name][: len(features)], features, atol=1e-5)
            else:
                np.testing.assert_allclose(ours[name], features, atol=1e-5)


def test_other_endings_are_refused_before_any_work(tiny_folder, photographs, tmp_path):
    with pytest.raises(ValueError, match=r"f\.csv ends in none of \.safetensors, \.parquet"):
        embed(str(tiny_folder), photographs, tmp_path / "f.csv")
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(tiny_folder, photographs, tmp_path, capsys):
    words = ["--backbone", str(tiny_folder), "--images", str(photographs), "--output", str(tmp_path / "f.parquet")]
    assert main(["embed", *words, "--dense", "--short_side", "32", "--features.layer", "0"]) == 0
    assert f"features of 10 images in {tmp_path / 'f.parquet'}" in capsys.readouterr().out
