"""Runs that are killed again and again end with the weights of one that was not."""

import multiprocessing
import os
import random
import signal
import time
from functools import partial
from pathlib import Path

import pytest
from torch.optim.lr_scheduler import ConstantLR

from srt_distill.backbone import hash_weights
from srt_distill.runs import load_run

STEPS_BETWEEN = 4
"""Checkpoints that a run writes at least before it is killed."""


def train(folder: Path, backbone: Path, davis: Path, max_steps: int, num_workers: int) -> None:
    """Start a run, or go on with it; in a process of its own."""
    import torch

    from srt_distill.data import DavisFrames, UnlabeledImages
    from srt_distill.training.fit import fit
    from srt_distill.training.targets import SampledShifts
    from tests.training.distilling import distillation

    os.setsid()  # a group of its own, with its loader processes
    multiprocessing.set_start_method("fork", force=True)  # of those: as where a command is called
    torch.set_num_threads(1)
    model = distillation(backbone, target=SampledShifts(2), lr_scheduler=partial(ConstantLR, factor=1.0), seed=3)
    data = {"crop_size": (32, 48), "margin": 1, "batch_size": 2, "num_workers": num_workers, "held_out": 2, "patch": 8}
    images = UnlabeledImages(DavisFrames(str(davis), split="train"), **data)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "num_sanity_val_steps": 0}
    length = {"max_steps": max_steps, "val_check_interval": 7, "check_val_every_n_epoch": None}
    result = fit(model, images, folder, resume="auto", checkpoint_every=1, **quiet, **length)
    os._exit(0 if result.stopped_by is None else 128 + result.stopped_by)


def stop_again_and_again(start, folder: Path, signals: list[int]) -> int:
    """Stop a run by each signal in turn, whatever it does then, and at last let it end; how often it was stopped."""
    last, stopped, chance = folder / "checkpoints" / "last.ckpt", 0, random.Random(0)
    for number in [*signals, None]:
        process = start()
        seen, changes = None, 0
        while number is not None and process.is_alive() and changes < STEPS_BETWEEN:
            now = last.stat().st_mtime_ns if last.exists() else None
            changes, seen = changes + (now != seen), now
            time.sleep(0.001)
        if number is not None:
            time.sleep(chance.random() * 0.05)
            (os.kill if number == signal.SIGKILL else os.killpg)(process.pid, number)
        process.join(120)
        stopped += process.exitcode != 0
        assert process.exitcode in {0, -signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT}
    return stopped


KILLS = [signal.SIGKILL]
ALL = KILLS * 20 + [signal.SIGTERM] * 5 + [signal.SIGINT] * 5


@pytest.mark.parametrize(
    ("signals", "num_workers"),
    [
        pytest.param(KILLS * 2, 0, id="twice"),
        pytest.param(ALL, 0, id="thirty times", marks=pytest.mark.slow),
        pytest.param(ALL, 2, id="thirty times, two workers", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_again_and_again_ends_as_one_that_is_not(
    tiny_folder, tiny_davis, tmp_path, monkeypatch, signals, num_workers
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["srt_distill.training.fit", "srt_distill.data"])
    max_steps = (STEPS_BETWEEN + 6) * (len(signals) + 1)

    def start(folder):
        words = tmp_path / folder, tiny_folder, tiny_davis, max_steps, num_workers
        process = context.Process(target=train, args=words)
        process.start()
        return process

    whole = start("whole")
    whole.join(300)
    assert whole.exitcode == 0
    stopped = stop_again_and_again(partial(start, "stopped"), tmp_path / "stopped", signals)
    assert stopped >= 0.9 * len(signals), "the run was over before"
    ends = [load_run(tmp_path / name) for name in ("whole", "stopped")]
    assert [run.step for run in ends] == [max_steps, max_steps]
    assert hash_weights(ends[0].student) == hash_weights(ends[1].student)
    assert ends[0].scores == ends[1].scores
    left = {path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()}
    assert left == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    assert not [path for path in elsewhere.iterdir() if path.stat().st_size > 10_000 and path.is_file()]
