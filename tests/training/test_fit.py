"""A run from start to finish: stopped, diverged, resumed, locked, without an end, and what it leaves."""

import fcntl
import os
import resource
import signal
import time
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch.optim.lr_scheduler import ConstantLR

from srt_distill.backbone import hash_weights
from srt_distill.cli import main
from srt_distill.data import DavisFrames, ImageFolder, UnlabeledImages
from srt_distill.runs import load_run, read_checkpoint
from srt_distill.training.checkpoint_contents import require_same_run
from srt_distill.training.configs import config_folder, find_config, list_configs
from srt_distill.training.fit import fit
from srt_distill.training.run_folder import AtomicCheckpointIO, locked
from srt_distill.training.settings import TrainableOptions
from srt_distill.training.targets import SampledShifts
from tests.training.distilling import distillation

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "num_sanity_val_steps": 0}


@pytest.fixture
def train(tiny_folder, tiny_davis, tmp_path):
    def run(folder="run", model=None, crops=None, **options):
        data = {"crop_size": (32, 48), "margin": 1, "batch_size": 2, "num_workers": 0, "held_out": 2, "patch": 8}
        images = UnlabeledImages(**{"source": DavisFrames(str(tiny_davis), split="train"), **data, **(crops or {})})
        settings = {"lr_scheduler": partial(ConstantLR, factor=1.0), "target": SampledShifts(2), **(model or {})}
        return fit(
            distillation(tiny_folder, **settings), images, tmp_path / folder, **{**QUIET, "max_steps": 4, **options}
        )

    return run


def student(folder):
    return hash_weights(load_run(folder).student)


class At(pl.Callback):
    """Does something after a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            self.act(trainer)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_saves_where_it_was_and_goes_on_to_the_same_end(train, tmp_path, number):
    stop = At(2, lambda trainer: (os.kill(os.getpid(), number), time.sleep(0.05)))
    before = signal.getsignal(signal.SIGINT)
    stopped = train(checkpoint_every=100, callbacks=[stop])
    assert stopped.stopped_by == number and stopped.steps == 2
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert train(resume="last").steps == 4
    train("whole")
    assert student(tmp_path / "run") == student(tmp_path / "whole")
    assert signal.getsignal(signal.SIGINT) is before


def test_the_command_ends_with_the_status_of_the_signal(tiny_folder, tiny_davis, tmp_path, monkeypatch, capsys):
    from srt_distill.commands import fit as command

    monkeypatch.setattr(command, "fit", lambda *a, **k: command.FitResult(tmp_path, 3, stopped_by=signal.SIGTERM))
    words = ["fit", "--backbone", f"local-dir:{tiny_folder}", "--data.source", "DavisFrames"]
    words += ["--data.source.root", str(tiny_davis), "--data.crop_size", "32", "--model.srt.radius", "1"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 143
    assert "--resume last" in capsys.readouterr().out


@pytest.mark.parametrize("held_out", [0, 2])
def test_a_run_that_diverges_stops_at_the_step_and_saves_nothing_that_is_no_number(train, tmp_path, held_out):
    wild = {"optimizer": lambda params: torch.optim.SGD(params, lr=1e12)}
    says = r"diverged at step \d+, learning rate 1e\+12.*(finite|the loss is).*optimizer SGD --model\.optimizer\.lr"
    with pytest.raises(RuntimeError, match=says):
        train(model=wild, crops={"held_out": held_out}, checkpoint_every=1, max_steps=6)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    if last.exists():
        assert all(value.isfinite().all() for value in read_checkpoint(last)["state_dict"].values())


def test_a_second_run_in_a_folder_is_refused_while_the_first_one_trains(train, tmp_path):
    with locked(tmp_path / "run"), pytest.raises(RuntimeError, match=r"another run \(process \d+\).*another folder"):
        train()
    assert train().steps == 4
    with (tmp_path / "run" / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # free again


def test_a_lock_falls_with_its_process_though_loader_processes_outlive_it(tmp_path):
    heard, begun = os.pipe()
    with locked(tmp_path):
        loader = os.fork()
        if not loader:
            os.write(begun, b"1")
            time.sleep(60)
            os._exit(0)
        assert os.read(heard, 1)
    try:
        with locked(tmp_path):
            pass
    finally:
        os.kill(loader, signal.SIGKILL)
        os.waitpid(loader, 0)


class Deadly(ImageFolder):
    """Kills the process that loads its third image."""

    def load(self, index):
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(index)


def test_a_killed_loader_process_ends_the_run_in_words_and_the_run_goes_on(train, tiny_davis, tmp_path):
    frames = tiny_davis / "JPEGImages" / "480p" / "cats"
    with pytest.raises(RuntimeError, match=r"worker.*(killed|exited)"):
        train(crops={"num_workers": 1, "source": Deadly(frames), "held_out": 0}, max_steps=40, checkpoint_every=1)
    train(crops={"source": ImageFolder(frames), "held_out": 0}, max_steps=5, resume="auto")
    assert load_run(tmp_path / "run").step == 5


@pytest.mark.parametrize(
    ("model", "crops", "says"),
    [
        ({"optimizer": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.0)}, {}, "model.optimizer.lr 0.003 in"),
        ({"optimizer": lambda p: torch.optim.SGD(p, lr=0.1)}, {}, "model.optimizer AdamW in"),
        ({"trainable": TrainableOptions("last_n")}, {}, "model.trainable.part all in"),
        ({"layers": [0]}, {}, "model.layers [-1] in"),
        ({"target": SampledShifts(3)}, {}, "model.target.init_args.num_shifts 2 in"),
        ({}, {"crop_size": (32, 32)}, "data.crop_size [32, 48] in"),
        ({}, {"held_out": 3}, "data.images"),
    ],
    ids=["rate", "optimizer", "part", "layers", "target", "crop", "images"],
)
def test_a_resumed_run_under_other_settings_is_refused_by_their_names(train, tmp_path, model, crops, says):
    train(config="the first", max_steps=1)
    with pytest.raises(ValueError) as refused:
        train(model=model, crops=crops, resume="last", config="the second")
    assert says in str(refused.value) and "the checkpoint" in str(refused.value)
    assert (tmp_path / "run" / "config.yaml").read_text() == "the first"


def test_what_only_computes_otherwise_may_change():
    stored = {"model.execution.compile": False, "model.srt.views_per_batch": 1, "model.srt.radius": 3}
    require_same_run(stored, {**stored, "model.execution.compile": True, "model.srt.views_per_batch": 4})
    with pytest.raises(ValueError, match=r"model\.srt\.radius 3 in the checkpoint, 2 now"):
        require_same_run(stored, {**stored, "model.srt.radius": 2})


def test_a_run_ended_by_time_has_a_schedule_that_fits(train):
    rates = []
    note = At(-1, None)
    note.on_train_batch_end = lambda trainer, *_: rates.append(trainer.optimizers[0].param_groups[0]["lr"])
    result = train(model={"lr_scheduler": None}, callbacks=[note], max_steps=-1, max_epochs=-1, max_time={"seconds": 2})
    assert result.steps > 3
    assert max(rates) > 3 * rates[-1] and max(rates) <= 3e-3


def test_a_run_without_an_end_is_refused_in_words(train):
    with pytest.raises(ValueError, match=r"max_steps -1.*max_epochs -1.*lr_scheduler"):
        train(model={"lr_scheduler": None}, max_steps=-1, max_epochs=-1)


def test_zero_saves_at_the_end_and_less_is_refused(train, tmp_path):
    assert train(checkpoint_every=0).steps == load_run(tmp_path / "run").step == 4
    with pytest.raises(ValueError, match="checkpoint_every -1 is negative"):
        train("other", checkpoint_every=-1)


def test_a_dry_run_leaves_nothing(train, tmp_path):
    assert train(fast_dev_run=True).dry
    assert not (tmp_path / "run").exists()
    assert train().steps == 4


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"accelerator": "gpu"}, "--trainer.accelerator"),
        ({"limit_val_batches": 0.1}, "--trainer.limit_val_batches"),
        ({"callbacks": [pl.callbacks.LearningRateFinder()]}, "LearningRateFinder"),
    ],
    ids=["gpu", "share", "callback"],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="has the GPU that is refused here")
def test_what_the_trainer_refuses_is_said_with_the_option(train, settings, says):
    with pytest.raises(ValueError, match=r"the trainer refuses .*" + says):
        train(**settings)


def test_there_are_a_last_a_previous_and_a_best_checkpoint_and_no_others(train, tmp_path):
    result = train(checkpoint_every=1, val_check_interval=2, max_steps=5, logger=None)
    names = {path.name for path in (tmp_path / "run").rglob("*.ckpt")}
    assert names == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    run = load_run(tmp_path / "run")
    assert run.step == 5 and run.scores["val/gap_closed"] == result.scores["val/gap_closed"]
    best = load_run(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert best.scores["val/gap_closed"] >= run.scores["val/gap_closed"]


def test_a_damaged_checkpoint_falls_back_to_the_one_before_by_name(train, tmp_path):
    train("whole", checkpoint_every=1)
    train(checkpoint_every=1, max_steps=3)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    last.write_bytes(content)
    with pytest.warns(UserWarning, match=r"Going on from .*previous\.ckpt, step \d"):
        train(resume="auto")
    assert student(tmp_path / "run") == student(tmp_path / "whole")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        io.save_checkpoint({"step": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_disk_that_fills_up_leaves_the_last_whole_checkpoint_and_the_run_goes_on(train, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = At(3, lambda trainer: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1])))
    try:
        with pytest.raises((OSError, RuntimeError)):
            train(checkpoint_every=1, max_steps=6, callbacks=[fill])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert load_run(tmp_path / "run").step == 2
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} <= {
        *("last.ckpt", "previous.ckpt", "best.ckpt")
    }
    train(resume="auto")
    train("whole")
    assert student(tmp_path / "run") == student(tmp_path / "whole")


def test_auto_starts_or_goes_on(train, tmp_path):
    assert train(resume="auto", max_steps=2).steps == 2
    assert train(resume="auto").steps == 4


def test_a_run_whose_score_no_longer_rises_stops_early(train):
    still = {"optimizer": lambda params: torch.optim.SGD(params, lr=0.0)}
    assert train(model=still, patience=2, max_steps=50, val_check_interval=1).steps < 10


def test_crops_that_do_not_fit_are_refused_by_name(train):
    with pytest.raises(ValueError, match=r"margin 2 is not the 1 real pixels.*model\.srt\.radius"):
        train(crops={"margin": 2})
    with pytest.raises(ValueError, match=r"crop height 36 is not a multiple of patch side 8.*patch=8"):
        train(crops={"crop_size": (36, 48), "patch": 4})


def command(folder, backbone, davis, *words):
    data = ["--data.source", "DavisFrames", "--data.source.root", str(davis), "--data.source.split", "train"]
    sizes = ["--data.crop_size", "[32, 48]", "--model.srt", "1", "--data.num_workers", "0", "--data.held_out", "2"]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]
    where = ["--trainer.default_root_dir", str(folder), "--trainer.max_steps", "2"]
    return ["fit", "--model.backbone", f"local-dir:{backbone}", *data, *sizes, *quiet, *where, *words]


def test_a_saved_config_is_the_run_again_and_one_seed_is_all(tiny_folder, tiny_davis, tmp_path):
    first = tmp_path / "first"
    assert main(command(first, tiny_folder, tiny_davis, "--seed_everything", "1")) == 0
    saved = yaml.safe_load((first / "config.yaml").read_text())
    assert saved["trainer"]["check_val_every_n_epoch"] is None and "resume" in saved
    again = ["fit", "--config", str(first / "config.yaml"), "--trainer.default_root_dir", str(tmp_path / "again")]
    assert main(again) == 0
    assert main(command(tmp_path / "other", tiny_folder, tiny_davis, "--seed_everything", "2")) == 0
    assert student(first) == student(tmp_path / "again") != student(tmp_path / "other")


def test_the_default_recipe_stands_in_one_place():
    recipe = yaml.safe_load(find_config("default").read_text())
    text = find_config("default").read_text()
    assert (
        "accelerator" not in recipe["trainer"] and "source" not in recipe["data"] and "backbone" not in recipe["model"]
    )
    assert "/" not in yaml.safe_dump(recipe), text
    assert set(list_configs()) >= {"default", "demo"} and config_folder().is_dir()
    with pytest.raises(FileNotFoundError, match="no config defualt.*default"):
        find_config("defualt")
