"""The DAVIS recipes on tiny data: tables and figures come out, finished rows are not computed again."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes"))

import ablation_choices
import davis_baselines
import davis_rows
import distill_ablation
import distill_rounds
import gap_elsewhere
import sweep_layers
import sweep_shift_radius

from srt_distill.backbone import load_backbone
from srt_distill.data import DavisFrames


@pytest.fixture
def common(tiny_folder, tiny_davis, tmp_path):
    data = [
        "--backbone",
        f"local-dir:{tiny_folder}",
        "--weights",
        "none",
        "--data",
        str(tiny_davis),
        "--output",
        str(tmp_path),
    ]
    return [*data, "--sequences", "cats", "--scale", "0.2", "--size_multiple", "8", "--device", "cpu"]


def rows_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def table_of(folder):
    lines = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_baselines_are_scored_once(common, tmp_path, tiny_folder):
    words = [
        *common,
        "--shift_radius",
        "1",
        "--baselines",
        "bilinear",
        "output_ensemble",
        "--student",
        str(tiny_folder),
    ]
    davis_baselines.main(words)
    table = table_of(tmp_path)
    assert [row["passes"] for row in table] == ["1", "9", "1", "9", "1"]
    student, single = table[-1], table[0]
    assert student["J&F-Mean"] == single["J&F-Mean"] and student["gain"] == "+0.000"
    assert student["better on"] == "0 of 1"
    assert Image.open(tmp_path / "figure.png").width > 300
    first = rows_of(tmp_path)
    assert {row["sequence"] for row in first} == {"cats"} and len(first) == 4, "the student is the single pass"
    davis_baselines.main([*words, "--num_frames", "4"])
    assert len(rows_of(tmp_path)) == 8, "fewer frames are other rows"
    davis_baselines.main(words)
    assert len(rows_of(tmp_path)) == 8, "the old ones are still there"


def test_radii_take_the_shifts_asked_for(common, tmp_path):
    sweep_shift_radius.main([*common, "--radii", "1", "3", "--num_shifts", "5"])
    sampled = table_of(tmp_path)
    assert [row["shifts"] for row in sampled] == ["1 of 1", "5 of 9", "5 of 49"]
    single, first = (float(sampled[i]["J&F-Mean"]) for i in (0, 1))
    stated = float(sampled[1]["relative gain in J&F"].replace("\N{MINUS SIGN}", "-").rstrip("%"))
    assert stated == pytest.approx(100 * (first / single - 1), abs=0.2)
    sweep_shift_radius.main([*common, "--radii", "1", "--num_shifts", "all"])
    assert table_of(tmp_path)[1]["shifts"] == "9 of 9"


def test_layers_are_compared_with_the_single_pass_of_the_same_layer(common, tmp_path, tiny_folder):
    sweep_layers.main([*common, "--shift_radius", "1", "--student", str(tiny_folder)])
    table = table_of(tmp_path)
    assert [row["layer"] for row in table] == ["0", "1"]
    assert all(row["distilled"] == row["single pass"] for row in table)
    assert len(rows_of(tmp_path)) == 4


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(["n01440764_tench", "n01443537_goldfish", "holiday"]):
        Image.new("RGB", (40, 40), (80 * i, 200 - 80 * i, 40)).save(folder / f"{name}.png")
    return folder


def test_ablation_trains_judges_and_resumes(common, tmp_path, photos):
    sizes = ["--crop", "32", "32", "--steps", "2", "--batch", "1", "--held_out", "2"]
    words = [*common, *sizes, "--photos", str(photos), "--seeds", "0", "1", "--only", "default", "harm"]
    distill_ablation.main(words)
    teacher, srt, default, *others = table_of(tmp_path)
    assert (teacher["choice"], srt["choice"]) == ("teacher", "SRT d=3 grid9")
    assert float(teacher["top-1"]) in (0.0, 0.5, 1.0), "two of three photographs tell their class"
    assert "±" in default["J&F"] and "±" in default["agreement"]
    assert [row["choice"] for row in others] == list(ablation_choices.FACTORS["harm"])
    trained = [row for row in rows_of(tmp_path) if "factor" in row]
    assert [row["seed"] for row in trained] == [0] * 7 + [1] * 7
    scores = {json.dumps(row["result"]["held_out"]) for row in trained if "half of the way" not in row["choice"]}
    assert len(scores) == 12, "seeds and choices make different students"
    assert "on those left out; there the default has agreement" in (tmp_path / "README.md").read_text()
    distill_ablation.main(words)
    assert [row for row in rows_of(tmp_path) if "factor" in row] == trained


@pytest.fixture
def train_tiny(tiny_folder, tiny_davis, photos):
    def train(choice, seed=0):
        return ablation_choices.distil(
            choice,
            seed,
            backbone=f"local-dir:{tiny_folder}",
            weights=None,
            layer=-1,
            patch=8,
            frames=DavisFrames(tiny_davis, split="train"),
            photos=sorted(photos.iterdir()),
            crop=(32, 32),
            scale=1.0,
            batch=1,
            steps=2,
            held_out=1,
            accelerator="cpu",
        )

    return train


def test_half_of_the_way_is_the_mean_of_the_weights(train_tiny, tiny_folder):
    (whole, _), (half, _) = train_tiny(ablation_choices.Choice()), train_tiny(ablation_choices.Choice(share=0.5))
    start = load_backbone(f"local-dir:{tiny_folder}").state_dict()
    for name, weight in half.state_dict().items():
        torch.testing.assert_close(weight, (start[name] + whole.state_dict()[name]) / 2)
    assert not torch.equal(whole.state_dict()["norm.weight"], start["norm.weight"])


def norm_of(model):
    return model.state_dict()["norm.weight"].clone()


def test_a_following_teacher_is_the_average_of_students(train_tiny, tiny_folder, monkeypatch):
    seen = []

    class Watching(ablation_choices.FollowingTeacher):
        def on_train_batch_end(self, trainer, pl_module, *rest):
            before = norm_of(pl_module.teacher)
            super().on_train_batch_end(trainer, pl_module, *rest)
            seen.append((before, norm_of(pl_module.student), norm_of(pl_module.teacher)))

    monkeypatch.setattr(ablation_choices, "FollowingTeacher", Watching)
    _, measured = train_tiny(ablation_choices.Choice(teacher_decay=0.75))
    assert len(seen) == 2
    for before, student, after in seen:
        torch.testing.assert_close(after, 0.75 * before + 0.25 * student)
    assert not torch.equal(seen[-1][2], norm_of(load_backbone(f"local-dir:{tiny_folder}")))
    assert "val/gap_closed_origin" in measured, "what is measured is measured from w0"


def test_mixed_photographs_are_not_those_that_judge(photos, tiny_davis):
    choice, files = ablation_choices.Choice(photos=True), sorted(photos.iterdir())
    judged = [choice.unseen(len(files), seed) for seed in range(3)]
    assert sorted(i for part in judged for i in part) == [0, 1, 2]
    frames = DavisFrames(tiny_davis, split="train")
    mixed = ablation_choices.mix(frames, files[:2])
    names = [mixed.name(i) for i in range(len(mixed))]
    assert [name for name in names if "holiday" in name or "tench" in name] == names[-2:]
    assert len(names) == 2 + min(6, len(frames))
    assert ablation_choices.Choice().unseen(5, 1) == range(5)


def test_rounds_are_trained_scored_and_found_again(common, tmp_path, photos, tiny_davis, monkeypatch):
    data = ["--data.source.root", str(tiny_davis), "--data.crop_size", "[32,32]", "--data.held_out", "2"]
    sizes = ["--data.patch", "8", "--data.batch_size", "1", "--data.margin", "1", "--model.shift_radius", "1"]
    steps = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--shift_radius", "1"]
    words = [*common, *data, *sizes, *steps, "--rounds", "2", "--seeds", "0", "1", "--photos", str(photos)]
    words += ["--runs", str(tmp_path / "runs"), "--smoothed", "bilinear"]
    distill_rounds.main(words)
    teacher, srt, _, first, second, *_ = table = table_of(tmp_path)
    assert [row["features"] for row in table] == [
        "teacher",
        "SRT d=1 grid9",
        "teacher, bilinear features",
        "round 1",
        "round 2",
        "round 1, bilinear features",
        "round 2, bilinear features",
    ]
    assert teacher["gain"] == "" and float(srt["J&F"]) > 0
    assert first["weight drift"] != second["weight drift"]
    assert all("±" in row[column] for row in (first, second) for column in ("J&F", "gap closed", "agreement"))
    page, rows = (tmp_path / "README.md").read_text(), rows_of(tmp_path)
    assert len(rows) == 3 + 2 * 2 * 2

    def refuse(arguments):
        raise RuntimeError(f"trained again: {arguments}")

    monkeypatch.setattr(distill_rounds.fit, "run", refuse)
    distill_rounds.main(words)
    assert rows_of(tmp_path) == rows and (tmp_path / "README.md").read_text() == page


def test_a_single_round_is_trained_once_too(common, tmp_path, tiny_davis, monkeypatch):
    words = [*common, "--data.source.root", str(tiny_davis), "--data.crop_size", "[32,32]", "--data.held_out", "2"]
    words += [
        "--data.patch",
        "8",
        "--data.batch_size",
        "1",
        "--trainer.max_steps",
        "2",
        "--model.layers",
        "[-1,-1:prefix]",
    ]
    words += ["--trainer.val_check_interval", "2", "--shift_radius", "1", "--rounds", "1", "--seeds", "0"]
    words += ["--runs", str(tmp_path / "runs")]
    distill_rounds.main(words)
    *_, only = table = table_of(tmp_path)
    assert [row["features"] for row in table] == ["teacher", "SRT d=1 grid9", "round 1"]
    logged = distill_rounds.load_run(tmp_path / "runs" / "seed-0").scores
    assert float(only["gap closed"].replace("\N{MINUS SIGN}", "-")) == round(logged["val/gap_closed_layer_-1"], 3)
    monkeypatch.setattr(distill_rounds.fit, "run", lambda _: pytest.fail("trained again"))
    distill_rounds.main(words)


def test_every_choice_of_the_ablation_is_one_that_the_library_takes(tiny_folder):
    choices = [choice for by_name in ablation_choices.FACTORS.values() for choice in by_name.values()]
    for choice in choices:
        ablation_choices.make_module(choice, f"local-dir:{tiny_folder}", None, layer=-1, seed=0)
    assert len(set(choices)) == len(choices), "all differ"


def test_too_few_frames_are_refused(tiny_davis):
    (video,) = davis_rows.open_videos(tiny_davis, ["cats"])
    with pytest.raises(ValueError, match="2 frames leave none to score"):
        davis_rows.cut(video, 2)
    assert davis_rows.cut(video, None) is video


@pytest.mark.parametrize(
    "recipe", [davis_baselines, sweep_shift_radius, sweep_layers, distill_ablation, distill_rounds]
)
def test_help_teaches(recipe, capsys):
    with pytest.raises(SystemExit) as exit_info:
        recipe.main(["--help"])
    assert exit_info.value.code == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("Claim:", "Run:", "Expected:", "--num_frames"))
    assert isinstance(davis_rows.make_parser(recipe.__doc__, "x"), argparse.ArgumentParser)


def test_gap_elsewhere_is_none_for_the_original_and_measured_once(tiny_folder, tiny_davis, tmp_path, monkeypatch):
    monkeypatch.setattr(gap_elsewhere, "CROPS", (("train", 0.2, (32, 48)), ("val", 1.0, (48, 64))))
    words = ["--backbone", f"local-dir:{tiny_folder}", "--weights", "none", "--students", str(tiny_folder)]
    words += ["--data", str(tiny_davis), "--num_images", "2", "--shift_radius", "1", "--device", "cpu"]
    gap_elsewhere.main([*words, "--output", str(tmp_path)])
    bilinear, original = table_of(tmp_path)
    assert list(original.values())[1:] == ["0.000", "0.000"], "the original's single pass closes nothing"
    assert all(-5 < float(value.replace("\N{MINUS SIGN}", "-")) < 1 for value in list(bilinear.values())[1:])
    monkeypatch.setattr(gap_elsewhere, "read_crops", lambda *_: pytest.fail("everything is there"))
    monkeypatch.setattr(
        gap_elsewhere, "measure", lambda missing, *_: {} if not missing else pytest.fail("measured twice")
    )
    gap_elsewhere.main([*words, "--output", str(tmp_path)])
    assert len(rows_of(tmp_path)) == 4
