"""Candidates that are made of models and options, by function and through the commands."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from srt_distill.backbone import BackboneOptions, FeatureExtractor, load_backbone
from srt_distill.backbone.options import ExecutionOptions, FeatureOptions
from srt_distill.cli import main
from srt_distill.comparison import baseline_over, open_candidates, prepare_model, single_pass, under_srt
from srt_distill.ensemble import StochasticResonance
from srt_distill.ensemble.options import SRTOptions

CPU = ExecutionOptions(device="cpu")


@pytest.fixture(scope="module")
def model(tiny_folder):
    return prepare_model(load_backbone(f"local-dir:{tiny_folder}"), FeatureOptions(), CPU)


@pytest.fixture
def images():
    return torch.randint(0, 256, (1, 3, 32, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("subset", "passes"), [("full", 25), ("checkerboard", 13), ("grid16", 16), ("grid9", 9)])
def test_a_subset_costs_and_gives_what_it_says(model, images, subset, passes):
    candidate = under_srt("srt", model, SRTOptions(2, subset=subset, views_per_batch="auto"))
    assert candidate.passes == passes
    by_hand = StochasticResonance(FeatureExtractor(model.module), 2, subset=subset)
    with torch.no_grad():
        expected = by_hand(candidate.normalization(images))[0]
    assert torch.allclose(candidate.maps(images)[0], expected, atol=1e-5)
    layers = candidate.maps_at(images, (0, "-1:prefix"))
    assert [tuple(maps.shape[-2:]) for maps in layers] == [(4, 5), (1, 1)]


def test_radius_0_is_the_single_pass_to_the_bit(model, images):
    single = single_pass("single", model).maps(images)[0]
    assert torch.equal(under_srt("srt", model, SRTOptions(0)).maps(images)[0], single)


def test_what_changes_features_changes_the_fingerprint(model):
    every = SRTOptions(2)
    low = replace(model, execution=replace(CPU, precision="bfloat16"))
    normless = replace(model, features=FeatureOptions(norm=False))
    prints = [
        under_srt("srt", m, options).fingerprint
        for m, options in (
            (model, every),
            (model, replace(every, subset="grid9")),
            (low, every),
            (normless, every),
            (model, replace(every, statistic="median")),
        )
    ]
    assert all(prints.count(fingerprint) == 1 for fingerprint in prints)
    batched = under_srt("srt", model, replace(every, views_per_batch="auto"))
    assert batched.fingerprint == prints[0], "how views are batched changes no feature"


@pytest.mark.parametrize(
    ("options", "passes", "cells", "name"),
    [
        (SRTOptions(1), 9, (4, 5), "SRT d=1"),
        (SRTOptions(1, subset="grid9"), 9, (4, 5), "SRT d=1 grid9"),
        (SRTOptions(1, statistic="median"), 9, (4, 5), "SRT d=1 median"),
        (SRTOptions(1, statistic="variance", grid=2), 9, (8, 10), "SRT d=1 variance, grid x2"),
        (SRTOptions(1, grid="pixels"), 9, (32, 40), "SRT d=1 grid xpixels"),
        (SRTOptions(1, flip=True), 18, (4, 5), "SRT d=1 flips"),
        (SRTOptions(1, scales=3), 27, (4, 5), "SRT d=1 3 scales"),
        (SRTOptions(1, statistic="confident"), 9, (4, 5), "SRT d=1 confident"),
        (SRTOptions(1, resume_at=-1), 9, (4, 5), "SRT d=1 resumed at -1"),
        (SRTOptions(0, flip=True, scales=3, resume_at=1, prefix="unshifted"), 6, (4, 5), None),
    ],
)
def test_variants_are_what_they_say(model, images, options, passes, cells, name):
    candidate, plain = under_srt("srt", model, options), under_srt("srt", model, SRTOptions(1))
    maps, mean = candidate.maps(images)[0], plain.maps(images)[0]
    assert (candidate.passes, tuple(maps.shape[-2:])) == (passes, cells)
    assert options.name == (name or "SRT d=0 flips, 3 scales, resumed at 1, unshifted prefix")
    assert maps.shape != mean.shape or options == options.plain or not torch.allclose(maps, mean, atol=1e-4)
    if options.grid == "pixels":
        assert torch.allclose(torch.nn.functional.avg_pool2d(maps, 8), mean, atol=1e-5)


def test_a_resumed_network_without_shifts_is_the_single_pass_and_with_no_block_left_is_srt(model, images):
    layers = (-1, "-1:prefix", 0)
    plain = single_pass("single", model).maps_at(images, layers)
    for at in (0, 1, -1, model.info.num_layers):
        resumed = under_srt("srt", model, SRTOptions(0, resume_at=at)).maps_at(images, layers)
        assert all(torch.equal(a, b) for a, b in zip(resumed, plain, strict=True)), at
    srt = under_srt("srt", model, SRTOptions(1)).maps_at(images, layers)
    resumed = under_srt("srt", model, SRTOptions(1, resume_at=model.info.num_layers)).maps_at(images, layers)
    assert all(torch.equal(a, b) for a, b in zip(resumed, srt, strict=True))
    with pytest.raises(ValueError, match="resume_at 9 is out of range"):
        under_srt("srt", model, SRTOptions(1, resume_at=9))


@pytest.mark.parametrize(
    ("variant", "fault"),
    [
        ({"resume_at": -1, "statistic": "median"}, "resume_at -1 with statistic median"),
        ({"resume_at": 0, "grid": "pixels"}, "leave statistic and grid out"),
        ({"statistic": "confident", "grid": 2}, "leave grid at 1"),
    ],
)
def test_variants_that_do_not_fit_each_other_are_refused(variant, fault):
    with pytest.raises(ValueError, match=fault):
        SRTOptions(1, **variant)


def test_scales_are_refused_where_the_size_is_fixed_and_where_they_are_even(model):
    fixed = replace(model, info=replace(model.info, fixed_size=(32, 40)))
    with pytest.raises(ValueError, match="scales 3 cannot be had"):
        under_srt("srt", fixed, SRTOptions(1, scales=3))
    with pytest.raises(ValueError, match="2 scales"):
        under_srt("srt", model, SRTOptions(1, scales=2))


def test_precision_reaches_both_halves_of_a_resumed_network(model, images):
    options = SRTOptions(1, resume_at=-1)
    low = under_srt("srt", replace(model, execution=replace(CPU, precision="bfloat16")), options).maps(images)[0]
    exact = under_srt("srt", model, options).maps(images)[0]
    assert low.dtype == torch.float32 and 1e-5 < (low - exact).norm() / exact.norm() < 3e-2


def test_bfloat16_reaches_the_passes(model, images):
    rounded = under_srt("srt", replace(model, execution=replace(CPU, precision="bfloat16")), SRTOptions(1))
    exact = under_srt("srt", model, SRTOptions(1)).maps(images)[0]
    assert 1e-5 < (rounded.maps(images)[0] - exact).norm() / exact.norm() < 2e-2


@pytest.mark.parametrize(
    ("baseline", "passes"),
    [
        ("naive_ensemble", 9),
        ("overlapping_tokens", 1),
        ("output_ensemble", 9),
        ("bicubic", 1),
        ("bilinear", 1),
        ("positional_projection", 1),
        ("whole_patch_mean", 18),
    ],
)
def test_baselines_are_candidates(model, images, baseline, passes):
    candidate = baseline_over(model, baseline, SRTOptions(1))
    assert candidate.passes == passes == (len(candidate.output_shifts) if baseline == "output_ensemble" else passes)
    assert candidate.maps(images)[-1].shape[-2:] == ((8, 10) if baseline == "overlapping_tokens" else (4, 5))


def test_a_lineup_has_baselines_between_srt_and_student(tiny_folder):
    options = BackboneOptions(str(tiny_folder))
    lineup = open_candidates(
        options,
        {"student": options},
        srt=SRTOptions(1),
        execution=CPU,
        baselines=["output_ensemble", "overlapping_tokens_pooled", "bilinear"],
    )
    assert [candidate.name for candidate in lineup.candidates] == [
        "teacher",
        "SRT d=1",
        "output ensemble d=1",
        "overlapping tokens, stride 4, pooled",
        "bilinear features",
        "student, bilinear features",
        "student",
    ]
    assert [candidate.passes for candidate in lineup.candidates] == [1, 9, 9, 1, 1, 1, 1]
    with pytest.raises(ValueError, match="shift radius 0 leaves no SRT"):
        open_candidates(options, {}, srt=SRTOptions(0))


def test_a_student_of_another_mean_and_std_keeps_its_own(tiny_folder, tmp_path):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    (other / "config.json").write_text(json.dumps(config))
    lineup = open_candidates(BackboneOptions(str(tiny_folder)), {"student": BackboneOptions(str(other))}, execution=CPU)
    teacher, _, student = lineup.candidates
    assert student.normalization.mean == (0.1, 0.2, 0.3) != teacher.normalization.mean


SMALL = ["--davis.scale", "0.2", "--size_multiple", "8", "--sequences", "cats", "--progress", "false"]


def evaluate(tiny_folder, tiny_davis, output, *words):
    start = ["evaluate", "--backbone", str(tiny_folder), "--davis", str(tiny_davis), "--output", str(output)]
    assert main([*start, *SMALL, *words]) == 0
    return json.loads((output / "results.json").read_text())["tasks"][0]["rows"][0]


def test_options_on_the_command_line(tiny_folder, tiny_davis, tmp_path):
    words = ["--radius", "1", "--precision", "bfloat16", "--attention", "math", "--srt.views_per_batch", "auto"]
    more = ["--statistic", "median", "--grid", "2", "--flip", "true", "--subset", "checkerboard", "--srt.scales", "3"]
    row = evaluate(tiny_folder, tiny_davis, tmp_path, *words, *more)
    fingerprint = row["fingerprint"]
    assert (fingerprint["precision"], fingerprint["attention"]) == ("bfloat16", "math")
    assert [fingerprint["srt"][name] for name in ("statistic", "grid", "flip", "scales")] == ["median", 2, True, 3]


@pytest.mark.parametrize("command", ["evaluate", "visualize"])
def test_class_tokens_are_no_map_to_score_or_draw(tiny_folder, tiny_davis, tmp_path, capsys, command):
    more = ["--layer=-1:prefix", "--davis", str(tiny_davis)]
    if command == "visualize":
        more = ["--layers", "[-1, '-1:prefix']", "--sources", str(tiny_davis)]
    assert main([command, "--backbone", str(tiny_folder), "--output", str(tmp_path / "out"), *more]) == 1
    assert "layer -1:prefix is of class and register tokens" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_ensemble_without_a_radius_is_refused(tiny_folder, tiny_davis, tmp_path, capsys):
    words = ["--backbone", str(tiny_folder), "--davis", str(tiny_davis), "--output", str(tmp_path), *SMALL]
    assert main(["evaluate", *words, "--baseline", "naive_ensemble"]) == 1
    assert "baseline naive_ensemble with shift radius 0" in capsys.readouterr().err
    assert main(["evaluate", *words, "--baseline", "bilinear", "--statistic", "median", "--flip", "true"]) == 1
    assert "baseline bilinear with" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_a_compiled_backbone_scores_as_the_plain_one(tiny_folder, tiny_davis, tmp_path):
    plain = evaluate(tiny_folder, tiny_davis, tmp_path / "plain")
    compiled = evaluate(tiny_folder, tiny_davis, tmp_path / "compiled", "--compile", "true")
    assert compiled["scores"]["J&F-Mean"] == pytest.approx(plain["scores"]["J&F-Mean"], abs=0.01)


@pytest.mark.parametrize(("readout", "row"), [("bilinear", "bilinear features"), ("pyramid", "pyramid of features")])
def test_a_student_is_read_as_its_export_declares(readout, row, tiny_folder, tmp_path):
    declaring = tmp_path / "student"
    shutil.copytree(tiny_folder, declaring)
    (declaring / "parity.json").write_text(json.dumps({"readout": readout}))
    teacher, student = BackboneOptions(f"local-dir:{tiny_folder}"), BackboneOptions(str(declaring))
    lineup = open_candidates(teacher, {"student": student}, srt=SRTOptions(1), baselines=[readout])
    rows = {candidate.name: candidate for candidate in lineup.candidates}
    assert list(rows) == ["teacher", "SRT d=1", row, "student"]  # not smoothed twice
    images = torch.randint(0, 256, (1, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    smoothed, student = rows[row], rows["student"]
    torch.testing.assert_close(student.maps(images), smoothed.maps(images))
    assert student.fingerprint["readout"] == readout and "readout" not in rows["teacher"].fingerprint
    tokens, prefix = student.maps_at(images, (-1, "-1:prefix"))
    torch.testing.assert_close(tokens, smoothed.maps(images)[-1])
    torch.testing.assert_close(prefix, rows["teacher"].maps_at(images, ("-1:prefix",))[0])
