"""Runs that are killed again and again end with the weights of one that was not."""

import io
import multiprocessing
import os
import random
import signal
import tarfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
from torch.optim.lr_scheduler import ConstantLR

from srt_distill.backbone import hash_weights
from srt_distill.runs import load_run
from tests.data.pictures import picture

STEPS_BETWEEN = 4
"""Checkpoints that a run writes at least before it is killed."""


class Diary(pl.Callback):
    """Write down which images each step has seen, by their blue, at once and for good: a kill takes nothing back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        blue = batch[:, 2].flatten(1)
        assert bool((blue == blue[:, :1]).all())
        numbers = " ".join(map(str, blue[:, 0].tolist()))
        with self.path.open("a") as file:
            file.write(f"{trainer.global_step} {trainer.current_epoch} {numbers}\n")


def open_source(kind: str, path: Path):
    """Images of one of the kinds that a run may read."""
    from srt_distill.data import DavisFrames, HuggingFaceStream, TarShards

    if kind == "frames":
        return DavisFrames(str(path), split="train")
    return {"tar": TarShards, "tables": HuggingFaceStream}[kind](str(path), buffer=4)


def train(folder: Path, backbone: Path, kind: str, path: Path, max_steps: int, num_workers: int) -> None:
    """Start a run, or go on with it; in a process of its own."""
    import torch

    from srt_distill.data import UnlabeledImages
    from srt_distill.training.fit import fit
    from srt_distill.training.targets import SampledShifts
    from tests.training.distilling import distillation

    os.setsid()  # a group of its own, with its loader processes
    multiprocessing.set_start_method("fork", force=True)  # of those: as where a command is called
    torch.set_num_threads(1)
    model = distillation(backbone, target=SampledShifts(2), lr_scheduler=partial(ConstantLR, factor=1.0), seed=3)
    data = {"crop_size": (32, 48), "margin": 1, "batch_size": 2, "num_workers": num_workers, "held_out": 2, "patch": 8}
    images = UnlabeledImages(open_source(kind, path), **data)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "num_sanity_val_steps": 0}
    if kind != "frames":
        quiet["callbacks"] = [Diary(folder.with_suffix(".txt"))]
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


def write_tar_shards(folder: Path, sizes: list[int]) -> None:
    """Pictures 0, 1, 2 … in tar shards of so many."""
    numbers = iter(range(sum(sizes)))
    for shard, size in enumerate(sizes):
        with tarfile.open(folder / f"shard-{shard:03}.tar", "w") as tar:
            for number in (next(numbers) for _ in range(size)):
                content = io.BytesIO()
                picture(number).save(content, "PNG")
                member = tarfile.TarInfo(f"{number:05}.png")
                member.size = content.tell()
                content.seek(0)
                tar.addfile(member, content)


def write_tables(folder: Path, sizes: list[int]) -> None:
    """The same in Parquet files."""
    import datasets

    numbers = iter(range(sum(sizes)))
    for shard, size in enumerate(sizes):
        rows = {"image": [picture(next(numbers)) for _ in range(size)]}
        features = datasets.Features({"image": datasets.Image()})
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"train-{shard}.parquet")


@pytest.fixture
def start(tiny_folder, tmp_path, monkeypatch):
    """Start a run in a process of its own, whose temporary files are on another folder than its run's."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["srt_distill.training.fit", "srt_distill.data"])

    def start(folder, kind, path, max_steps, num_workers):
        words = tmp_path / folder, tiny_folder, kind, path, max_steps, num_workers
        process = context.Process(target=train, args=words)
        process.start()
        return process

    return start


def require_the_same_end(start, tmp_path: Path, signals: list[int], kind: str, path: Path, num_workers: int) -> None:
    """Hold a run that is stopped again and again against one that is not."""
    max_steps = (STEPS_BETWEEN + 6) * (len(signals) + 1)
    words = kind, path, max_steps, num_workers
    whole = start("whole", *words)
    whole.join(300)
    assert whole.exitcode == 0
    stopped = stop_again_and_again(partial(start, "stopped", *words), tmp_path / "stopped", signals)
    assert stopped >= 0.9 * len(signals), "the run was over before"
    ends = [load_run(tmp_path / name) for name in ("whole", "stopped")]
    assert [run.step for run in ends] == [max_steps, max_steps]
    assert hash_weights(ends[0].student) == hash_weights(ends[1].student)
    assert ends[0].scores == ends[1].scores
    left = {path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()}
    assert left == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    assert not [path for path in (tmp_path / "elsewhere").iterdir() if path.stat().st_size > 10_000 and path.is_file()]


@pytest.mark.parametrize(
    ("signals", "num_workers"),
    [
        pytest.param(KILLS * 2, 0, id="twice"),
        pytest.param(ALL, 0, id="thirty times", marks=pytest.mark.slow),
        pytest.param(ALL, 2, id="thirty times, two workers", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_again_and_again_ends_as_one_that_is_not(
    start, tiny_davis, tmp_path, signals, num_workers
):
    require_the_same_end(start, tmp_path, signals, "frames", tiny_davis, num_workers)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(("kind", "write"), [("tar", write_tar_shards), ("tables", write_tables)])
def test_a_stream_that_is_stopped_again_and_again_loses_and_repeats_no_image(start, tmp_path, kind, write, num_workers):
    """Twenty-four images are trained on, twelve steps an epoch: kills fall into the middle of epochs."""
    images = tmp_path / "images"
    images.mkdir()
    write(images, [9, 1, 16])
    require_the_same_end(start, tmp_path, KILLS * 10 + [signal.SIGTERM, signal.SIGINT], kind, images, num_workers)

    seen = {}
    for name in ("whole", "stopped"):
        lines = [tuple(map(int, line.split())) for line in (tmp_path / f"{name}.txt").read_text().splitlines()]
        assert name == "stopped" or len(lines) == len({step for step, *_ in lines})
        assert len(set(lines)) == len({step for step, *_ in lines}), "a step that was repeated saw other images"
        seen[name] = sorted(set(lines))
    assert seen["stopped"] == seen["whole"]
    for epoch in range(seen["whole"][-1][1]):
        numbers = [number for _, of_step, *step in seen["whole"] for number in step if of_step == epoch]
        assert Counter(numbers) == Counter(range(2, 26)), f"epoch {epoch}"
