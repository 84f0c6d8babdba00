"""Rounds: each learns from the student of the one before; killed anywhere, a run goes on to the same end."""

import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srt_distill.backbone import hash_weights, load_backbone
from srt_distill.cli import main
from srt_distill.runs import find_checkpoint, load_run
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.feature_metrics import weight_drift


@pytest.fixture(scope="module")
def config(tiny_folder, tiny_davis, tmp_path_factory):
    """A run of four steps on tiny data."""
    source = {"class_path": "srt_distill.data.DavisFrames", "init_args": {"root": str(tiny_davis), "split": "train"}}
    settings = {
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 4,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
        },
        "model": {
            "backbone": {"name": f"local-dir:{tiny_folder}"},
            "srt": {"radius": 1, "interpolation": "nearest"},
            "layers": [-1],
            "layer_weights": None,
        },
        "data": {"source": source, "crop_size": [32, 48], "batch_size": 2, "num_workers": 0, "held_out": 2},
        "rounds": 2,
        "checkpoint_every": 1,
    }
    path = tmp_path_factory.mktemp("rounds") / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def fit(config, root, *words):
    return main(["fit", "--config", str(config), "--trainer.default_root_dir", str(root), *words])


@pytest.fixture(scope="module")
def whole(config):
    assert fit(config, config.parent / "whole") == 0
    return config.parent / "whole"


def students(root):
    return [hash_weights(load_run(root / f"round-{number}").student) for number in (1, 2)]


def test_a_round_learns_from_the_student_before_and_is_measured_from_the_first_teacher_too(whole, tiny_folder):
    first, second = (load_run(whole / f"round-{number}") for number in (1, 2))
    original = load_backbone(f"local-dir:{tiny_folder}")
    assert hash_weights(first.teacher) == hash_weights(original)
    assert hash_weights(second.teacher) == hash_weights(first.student) != hash_weights(second.student)
    assert first.step == second.step == 4
    assert "val/gap_closed_origin" not in first.scores
    assert second.settings["origin"]["name"] == f"local-dir:{tiny_folder}"
    assert second.scores["val/gap_closed_origin"] != second.scores["val/gap_closed"]
    pairs = zip(second.student.parameters(), original.parameters())
    assert second.scores["val/weight_drift"] == pytest.approx(weight_drift(pairs).item(), rel=1e-4)


def test_a_round_is_the_plain_run_from_that_backbone(whole, config, tmp_path):
    words = ["--rounds", "1", "--model.backbone", f"local-dir:{whole / 'round-1' / 'student'}"]
    assert fit(config, tmp_path, *words) == 0
    assert hash_weights(load_run(tmp_path).student) == students(whole)[1]


def test_the_folder_stands_for_its_last_finished_round(whole, tmp_path):
    assert find_checkpoint(whole) == whole / "round-2" / "checkpoints" / "last.ckpt"
    assert main(["export", "--checkpoint", str(whole / "round-1"), "--output", str(tmp_path / "first")]) == 0
    assert hash_weights(load_backbone(f"local-dir:{tmp_path / 'first'}")) == students(whole)[0]
    assert "A later round" not in (tmp_path / "first" / "README.md").read_text()
    part = tmp_path / "part"
    shutil.copytree(whole, part)
    shutil.rmtree(part / "round-2" / "student")
    assert find_checkpoint(part) == part / "round-1" / "checkpoints" / "last.ckpt"
    shutil.rmtree(part / "round-1" / "student")
    with pytest.raises(FileNotFoundError, match=r"no round in .* is finished.*--resume last"):
        find_checkpoint(part)


def test_tensorboard_shows_every_round(whole):
    for number in (1, 2):
        events = EventAccumulator(str(whole / f"round-{number}" / "tensorboard"))
        events.Reload()
        tags = set(events.Tags()["scalars"])
        assert {"train/loss", "train/images_per_second", "val/gap_closed", "val/weight_drift"} <= tags
        assert {"val/effective_rank_student", "val/effective_rank_teacher", "val/feature_variance_student"} <= tags
        assert ("val/gap_closed_origin" in tags) == (number == 2)
        assert all(rate.value > 0 for rate in events.Scalars("train/images_per_second"))


@pytest.mark.parametrize("killed_at", ["in round 1", "between rounds", "in round 2"])
def test_killed_anywhere_it_goes_on_to_the_same_end(whole, config, tmp_path, monkeypatch, killed_at):
    if killed_at == "between rounds":
        shutil.copytree(whole / "round-1", tmp_path / "round-1")
        shutil.rmtree(tmp_path / "round-1" / "student")
        scores = load_run(tmp_path / "round-1").scores
    else:
        left, step = [6 if killed_at == "in round 2" else 2], SRTDistillation.training_step

        def dying_step(self, batch, batch_idx):
            if not left[0]:
                raise RuntimeError("killed")
            left[0] -= 1
            return step(self, batch, batch_idx)

        monkeypatch.setattr(SRTDistillation, "training_step", dying_step)
        assert fit(config, tmp_path) == 1
        monkeypatch.setattr(SRTDistillation, "training_step", step)
        assert (tmp_path / "round-1" / "student").is_dir() == (killed_at == "in round 2")
    assert fit(config, tmp_path, "--resume", "last") == 0
    assert students(tmp_path) == students(whole)
    if killed_at == "between rounds":
        assert load_run(tmp_path / "round-1").scores == scores  # nothing was trained, nothing forgotten


def test_what_does_not_go_with_rounds_is_refused(whole, config, tmp_path, capsys):
    def refused(root, *words):
        assert fit(config, root, *words) == 1
        return capsys.readouterr().err

    assert "already holds rounds; continue with --resume last" in refused(whole)
    assert "all 2 rounds in" in refused(whole, "--resume", "last")
    assert "already holds a run" in refused(whole, "--rounds", "1")
    assert "holds no rounds to resume" in refused(tmp_path / "a", "--resume", "last")
    assert "rounds are resumed with --resume last or auto only" in refused(tmp_path / "a", "--resume", "x.ckpt")
    assert "holds a run without rounds" in refused(whole / "round-1")
    assert "rounds 0 is not a positive number" in refused(tmp_path / "a", "--rounds", "0")
    cached = ["--model.target", "CachedShifts", "--model.target.folder", "targets"]
    assert "it holds the targets of the first round's teacher" in refused(tmp_path / "a", *cached)
    assert main(["cache", "--config", str(config), "--output", str(tmp_path / "targets")]) == 1
    assert "a cache holds the targets of one teacher" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_adapters_are_merged_between_rounds(config, tmp_path):
    assert fit(config, tmp_path, "--model.trainable", "lora", "--trainer.max_steps", "2") == 0
    first, second = (load_run(tmp_path / f"round-{number}") for number in (1, 2))
    assert hash_weights(second.teacher) == hash_weights(first.student)
    assert not torch.equal(second.student.blocks[0].attn.qkv.weight, first.student.blocks[0].attn.qkv.weight)


@pytest.mark.slow
def test_two_processes_train_rounds_together(config, tmp_path):
    words = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.default_root_dir", str(tmp_path / "run")]
    command = [sys.executable, "-m", "srt_distill", "fit", "--config", str(config), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [done.stdout.count(f"Round {number} of 2") for number in (1, 2)] == [1, 1]
    first, second = students(tmp_path / "run")
    teacher = load_run(tmp_path / "run" / "round-2").teacher
    assert hash_weights(teacher) == first != second
