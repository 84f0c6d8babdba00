"""The model card: what the hub reads, what was measured, and where a student comes from."""

from dataclasses import replace

import pytest
import yaml

from srt_distill.exporting.card import Card, describe_outcome, write_card
from srt_distill.exporting.parity import Parity
from srt_distill.exporting.provenance import (
    Source,
    describe_license,
    find_datasets,
    find_source,
    find_teachers,
    without_paths,
)
from srt_distill.latency import Latency

CARD = Card(
    name="adapted",
    architecture="vit_small_patch16_224",
    patch_size=16,
    fixed_size=None,
    teacher=Source("vit_small_patch16_224.dino", "timm/vit_small_patch16_224.dino"),
    origin=None,
    teacher_hash="0123456789abcdef" * 4,
    license="apache-2.0",
    datasets=["someone/pictures"],
    layers=(-1, "-1:prefix"),
    num_shifts=49,
    interpolation="nearest",
    readout="none",
    alpha=1.0,
    settings={"model": {"srt": {"radius": 3}}},
    scores={
        "val/gap_closed": 0.5,
        "val/gap_closed_layer_-1": 0.5,
        "val/gap_closed_layer_-1:prefix": -1.07,
        "davis-2017/J&F-Mean": 0.61,
        "val/effective_rank_student": float("nan"),
    },
    parity=Parity(3, 10, (224, 224), 100, 100, Latency(0.01, 0.01, 1.0, 0.9, 1.1, 0.95, 20)),
    proofs=(),
)


def written(card: Card, folder) -> tuple[dict, str]:
    write_card(folder, card)
    _, header, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header), text


def test_the_header_is_what_the_hub_reads(tmp_path):
    header, _ = written(CARD, tmp_path)
    results = header.pop("model-index")
    assert header == {
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "license": "apache-2.0",
        "base_model": "timm/vit_small_patch16_224.dino",
        "base_model_relation": "finetune",
        "datasets": ["someone/pictures"],
        "tags": ["timm", "image-feature-extraction", "srt-distill", "stochastic-resonance"],
    }
    (model,) = results
    assert model["name"] == "adapted"
    by_dataset = {
        result["dataset"]["type"]: {metric["type"]: metric["value"] for metric in result["metrics"]}
        for result in model["results"]
    }
    assert by_dataset["davis-2017"] == {"J&F-Mean": 0.61}
    assert by_dataset["held-out"]["gap_closed"] == 0.5
    assert "effective_rank_student" not in by_dataset["held-out"]  # the hub takes numbers only


def test_the_hubs_own_reader_understands_it(tmp_path):
    from huggingface_hub import ModelCard

    write_card(tmp_path, CARD)
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.base_model == "timm/vit_small_patch16_224.dino"
    assert {result.metric_type for result in data.eval_results or ()} >= {"gap_closed", "J&F-Mean"}


def test_what_is_not_known_is_left_out(tmp_path):
    unknown = replace(CARD, teacher=Source("mine (a local folder)", None), license=None, datasets=(), scores={})
    header, text = written(unknown, tmp_path)
    assert not header.keys() & {"base_model", "base_model_relation", "license", "datasets", "model-index"}
    assert "Nothing was measured" in text


def test_the_first_rounds_teacher_is_the_base(tmp_path):
    later = replace(CARD, teacher=Source("student (a local folder)", None), origin=CARD.teacher)
    header, text = written(later, tmp_path)
    assert header["base_model"] == "timm/vit_small_patch16_224.dino"
    assert "Teacher: student (a local folder)" in text
    assert "first teacher was vit_small_patch16_224.dino" in text


@pytest.mark.parametrize(
    ("scores", "layers", "said"),
    [
        ({}, [-1], "Nothing was measured"),
        ({"davis-2017/J&F-Mean": 0.6}, [-1], "was not measured"),
        ({"val/gap_closed": float("nan")}, [-1], "was not measured"),
        ({"val/gap_closed": 0.4}, [-1], "close 0.400 of the gap"),
        ({"val/gap_closed": 0.0}, [-1], "did not help"),
        ({"val/gap_closed": -0.2}, [-1], "gap closed -0.200. Training did not help"),
        ({"val/gap_closed": 0.9}, ["-1:prefix"], "was not measured"),
        # the mean over all layers is another thing than that over dense ones
        (
            {
                "val/gap_closed": -0.1,
                "val/gap_closed_layer_-1": 0.6,
                "val/gap_closed_layer_8:key": 0.2,
                "val/gap_closed_layer_-1:prefix": -1.1,
            },
            [-1, "8:key", "-1:prefix"],
            "close 0.400 of the gap",
        ),
    ],
)
def test_the_outcome_is_said_plainly_and_of_dense_layers(scores, layers, said):
    headline, *others = describe_outcome(scores, layers).split("\n\n")
    assert said in headline
    measured = ["-1:prefix"] if "-1:prefix" in layers and scores else []
    assert len(others) == len(measured)
    assert all(layer in line for layer, line in zip(measured, others, strict=True))


def test_sizes_smoothing_and_readout_are_said(tmp_path):
    _, plain = written(CARD, tmp_path)
    assert "multiples of 16 pixels" in plain
    assert "smoothed" not in plain
    assert "Readout" not in plain
    _, text = written(replace(CARD, fixed_size=(224, 224), interpolation="bilinear", readout="bilinear"), tmp_path)
    assert "224x224 pixels only" in text
    assert "features smoothed by bilinear" in text
    assert "through bilinear smoothing" in text
    _, text = written(replace(CARD, readout="pyramid"), tmp_path)
    assert "each token beside the mean of its neighbourhood" in text and "PyramidFeatures" in text


@pytest.mark.parametrize(
    ("name", "weights", "tag", "source"),
    [
        ("vit_small_patch16_224.dino", None, "dino", Source("vit_small_patch16_224.dino", CARD.teacher.repository)),
        ("vit_small_patch16_224", None, "dino", Source("vit_small_patch16_224", CARD.teacher.repository)),
        ("vit_small_patch16_224", "/home/me/dino.pth", None, Source("vit_small_patch16_224 with dino.pth", None)),
        ("hf-hub:someone/model", None, None, Source("hf-hub:someone/model", "someone/model")),
        ("local-dir:/home/me/models/mine", None, "dino", Source("mine (a local folder)", None)),
        ("models/mine/", None, None, Source("mine (a local folder)", None)),
        ("C:\\models\\mine", None, None, Source("mine (a local folder)", None)),
    ],
)
def test_sources_are_named_without_paths(name, weights, tag, source):
    assert find_source(name, weights, tag) == source


def test_teachers_of_a_run():
    backbone = {"name": "runs/a/round-1/student", "weights": None, "position_embedding": "timm"}
    first = {"name": "vit_small_patch16_224.dino", "weights": None, "position_embedding": "timm"}
    assert find_teachers({"backbone": first, "origin": None}, "dino") == (CARD.teacher, None)
    later = find_teachers({"backbone": backbone, "origin": first}, "dino")
    assert later == (Source("student (a local folder)", None), CARD.teacher)


def test_settings_keep_no_path():
    given = {
        "root": "/home/me/pictures",
        "folder": "my/pictures",
        "backbone": {"name": "local-dir:/home/me/mine", "weights": "~/weights/mine.pth"},
        "name": "someone/pictures",
        "repository": "hf-hub:someone/model",
        "class_path": "srt_distill.data.ImageFolder",
        "shards": ["https://host/secret/a.tar", "runs/x/b.tar"],
        "layers": (-1, "8:key"),
        "border": "edge",
        "number": 3,
        "nothing": None,
    }
    assert without_paths(given) == {
        "root": "pictures",
        "folder": "pictures",
        "backbone": {"name": "local-dir:mine", "weights": "mine.pth"},
        "name": "someone/pictures",
        "repository": "hf-hub:someone/model",
        "class_path": "srt_distill.data.ImageFolder",
        "shards": ["a.tar", "b.tar"],
        "layers": [-1, "8:key"],
        "border": "edge",
        "number": 3,
        "nothing": None,
    }


def test_data_sets_and_licences_as_far_as_they_are_known(tmp_path, monkeypatch):
    source = {"class_path": "srt_distill.data.HuggingFaceImages", "init_args": {"name": "someone/pictures"}}
    assert find_datasets({"source": source}) == ["someone/pictures"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "pictures").mkdir(parents=True)  # a folder of that name is meant, then
    assert find_datasets({"source": source}) == []
    assert find_datasets({"source": {"init_args": {"root": "/home/me/pictures"}}}) == find_datasets({}) == []
    assert describe_license("mit") == {"license": "mit"}
    assert describe_license("dinov3-license") == {"license": "other", "license_name": "dinov3-license"}
    assert describe_license(None) == describe_license("unknown") == {}
