"""Methods that `evaluate` and `compare` make of a backbone."""

import json
from dataclasses import replace

import pytest
import torch

from srt_distill.backbone import FeatureExtractor, load_backbone
from srt_distill.cli import main
from srt_distill.comparison.candidates import Features, Variant, make_method, name_ensemble
from srt_distill.ensemble import StochasticResonance


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load_backbone(f"local-dir:{tiny_folder}")


def method_of(model, features, views_per_batch="auto"):
    return make_method("some", model, features, views_per_batch=views_per_batch, device=torch.device("cpu"))


@pytest.mark.parametrize(("subset", "passes"), [("full", 25), ("checkerboard", 13), ("grid16", 16), ("grid9", 9)])
def test_a_subset_costs_and_gives_what_it_says(model, subset, passes):
    method = method_of(model, Features(-1, True, 2, "edge", subset))
    assert method.passes == passes
    images = torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    by_hand = StochasticResonance(FeatureExtractor(model), 2, subset=subset)(images)[0]
    with torch.no_grad():
        assert torch.allclose(method.extract(images)[0], by_hand, atol=1e-5)


def test_what_changes_features_changes_the_fingerprint(model):
    every = Features(-1, True, 2, "edge")
    others = [replace(every, shift_subset="grid9"), replace(every, precision="bfloat16"), replace(every, norm=False)]
    prints = [method_of(model, features).fingerprint for features in (every, *others)]
    assert all(prints.count(fingerprint) == 1 for fingerprint in prints)


def test_part_of_the_grid_is_named_in_tables():
    assert name_ensemble(3, "full") == "SRT d=3"
    assert name_ensemble(3, "grid9") == "SRT d=3 grid9"


@pytest.mark.parametrize(
    ("variant", "passes", "cells", "name"),
    [
        (Variant(), 9, (4, 5), ""),
        (Variant("median"), 9, (4, 5), " median"),
        (Variant("variance", 2), 9, (8, 10), " variance, grid x2"),
        (Variant(grid_scale=8), 9, (32, 40), " grid x8"),
        (Variant(flip=True), 18, (4, 5), " flips"),
    ],
)
def test_variants_are_what_they_say(model, variant, passes, cells, name):
    features = Features(-1, True, 1, "edge")
    method = make_method("some", model, features, views_per_batch=1, device=torch.device("cpu"), variant=variant)
    plain = method_of(model, features)
    images = torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps, mean = method.extract(images)[0], plain.extract(images)[0]
    assert (method.passes, maps.shape[-2:], variant.name) == (passes, cells, name)
    assert (method.fingerprint == plain.fingerprint) == (variant == Variant())
    if variant.grid_scale == 8:
        assert torch.allclose(torch.nn.functional.avg_pool2d(maps, 8), mean, atol=1e-5)
    elif variant != Variant():
        assert maps.shape != mean.shape or not torch.allclose(maps, mean, atol=1e-4)


def test_bfloat16_reaches_the_passes(model):
    images = torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact, rounded = (
            method_of(model, Features(-1, True, 1, "edge", "full", precision)).extract(images)[0]
            for precision in ("float32", "bfloat16")
        )
    assert 1e-5 < (rounded - exact).norm() / exact.norm() < 2e-2


def evaluate(tiny_folder, tiny_davis, output, *words):
    small = ["--data", str(tiny_davis), "--scale", "0.2", "--size_multiple", "8", "--sequences", "[cats]"]
    assert main(["evaluate", "--backbone", str(tiny_folder), *small, "--output", str(output), *words]) == 0
    return json.loads((output / "results.json").read_text())


def test_options_of_execution_on_the_command_line(tiny_folder, tiny_davis, tmp_path):
    words = ["--precision", "bfloat16", "--attention", "math", "--views_per_batch", "auto"]
    results = evaluate(tiny_folder, tiny_davis, tmp_path, "--shift_radius", "1", *words)
    fingerprint = results["settings"]["fingerprint"]
    assert "statistic" not in fingerprint
    assert (fingerprint["precision"], fingerprint["attention"]) == ("bfloat16", "math")


def test_variants_on_the_command_line(tiny_folder, tiny_davis, tmp_path):
    words = ["--statistic", "median", "--grid_scale", "2", "--flip", "true", "--shift_subset", "checkerboard"]
    results = evaluate(tiny_folder, tiny_davis, tmp_path, "--shift_radius", "1", *words)
    fingerprint = results["settings"]["fingerprint"]
    assert [fingerprint[name] for name in ("statistic", "grid_scale", "flip")] == ["median", 2, True]
    assert results["settings"]["patch"] == 4


@pytest.mark.parametrize("command", ["evaluate", "visualize"])
def test_class_tokens_are_no_map_to_score_or_draw(tiny_folder, tiny_davis, tmp_path, capsys, command):
    more = ["--layer=-1:prefix", "--data", str(tiny_davis)]
    if command == "visualize":
        more = ["--layers", "[-1, '-1:prefix']", "--sources", f"[{tiny_davis}]"]
    assert main([command, "--backbone", str(tiny_folder), "--output", str(tmp_path / "out"), *more]) == 1
    assert "layer -1:prefix is of class and register tokens" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_compiled_backbone_scores_as_the_plain_one(tiny_folder, tiny_davis, tmp_path):
    plain = evaluate(tiny_folder, tiny_davis, tmp_path / "plain")
    compiled = evaluate(tiny_folder, tiny_davis, tmp_path / "compiled", "--compile", "true")
    assert compiled["scores"]["J&F-Mean"] == pytest.approx(plain["scores"]["J&F-Mean"], abs=0.01)
