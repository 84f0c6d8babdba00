"""A stream read by two processes: every image once an epoch between them, also where both are killed and go on."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from torch.optim.lr_scheduler import ConstantLR

from srt_distill.backbone import hash_weights
from srt_distill.runs import load_run
from tests.training.test_kills import Diary, open_source, write_tables, write_tar_shards
from tests.training.test_processes import free_port

STEPS = 20
"""Of a run; an epoch of 24 images has 6 for two processes with batches of 2."""


def train_part(rank: int, folder: Path, backbone: Path, kind: str, path: Path, num_workers: int) -> None:
    """Be one of two processes of a run, as torchrun starts them."""
    import torch

    from srt_distill.data import UnlabeledImages
    from srt_distill.training.fit import fit
    from srt_distill.training.targets import SampledShifts
    from tests.training.distilling import distillation

    torch.set_num_threads(1)
    model = distillation(backbone, target=SampledShifts(2), lr_scheduler=partial(ConstantLR, factor=1.0), seed=3)
    data = {"crop_size": (32, 48), "margin": 1, "batch_size": 2, "num_workers": num_workers, "held_out": 2, "patch": 8}
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "num_sanity_val_steps": 0}
    both = {"devices": 2, "strategy": "ddp", "callbacks": [Diary(folder.with_suffix(f".{rank}.txt"))]}
    length = {"max_steps": STEPS, "val_check_interval": 7, "check_val_every_n_epoch": None}
    images = UnlabeledImages(open_source(kind, path), **data)
    fit(model, images, folder, resume="auto", checkpoint_every=1, **quiet, **both, **length)


@pytest.fixture
def start(tiny_folder, monkeypatch):
    """Start both processes of a run, with the variables that torchrun sets."""
    context = multiprocessing.get_context("spawn")

    def start(folder, kind, path, num_workers):
        given = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "GLOO_SOCKET_IFNAME": "lo", "GROUP_RANK": 0}
        given |= {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "stream"}
        parts = []
        for rank in range(2):
            with monkeypatch.context() as environment:
                for name, value in {**given, "RANK": rank, "LOCAL_RANK": rank}.items():
                    environment.setenv(name, str(value))
                parts.append(
                    context.Process(target=train_part, args=(rank, folder, tiny_folder, kind, path, num_workers))
                )
                parts[-1].start()
        return parts

    return start


def read_diaries(folder: Path) -> dict[tuple[int, int], tuple[int, ...]]:
    """Which images a process saw in a step, and that a step that was repeated saw the same; with the epoch in front."""
    seen: dict[tuple[int, int], tuple[int, ...]] = {}
    for rank in range(2):
        for line in folder.with_suffix(f".{rank}.txt").read_text().splitlines():
            step, *rest = map(int, line.split())
            assert seen.setdefault((rank, step), tuple(rest)) == tuple(rest)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "write", "num_workers"), [("tar", write_tar_shards, 2), ("tables", write_tables, 0)])
def test_two_processes_share_a_stream_and_go_on_with_it(start, tmp_path, kind, write, num_workers):
    images = tmp_path / "images"
    images.mkdir()
    write(images, [9, 1, 16])
    words = kind, images, num_workers
    for part in (whole := start(tmp_path / "whole", *words)):
        part.join(300)
    assert [part.exitcode for part in whole] == [0, 0]

    killed, last = start(tmp_path / "killed", *words), tmp_path / "killed" / "checkpoints" / "last.ckpt"
    while not last.exists() or load_run(tmp_path / "killed").step < 8:  # in the middle of the second epoch
        assert all(part.is_alive() for part in killed)
        time.sleep(0.05)
    for part in killed:
        os.kill(part.pid, signal.SIGKILL)
    for part in killed:
        part.join()
    assert load_run(tmp_path / "killed").step < STEPS
    for part in (resumed := start(tmp_path / "killed", *words)):
        part.join(300)
    assert [part.exitcode for part in resumed] == [0, 0]

    seen = read_diaries(tmp_path / "whole")
    assert read_diaries(tmp_path / "killed") == seen
    for epoch in range(STEPS // 6):
        numbers = [number for of_step, *step in seen.values() for number in step if of_step == epoch]
        assert Counter(numbers) == Counter(range(2, 26)), f"epoch {epoch}"
    ends = [load_run(tmp_path / name) for name in ("whole", "killed")]
    assert [run.step for run in ends] == [STEPS, STEPS]
    assert hash_weights(ends[0].student) == hash_weights(ends[1].student)
    assert ends[0].scores == ends[1].scores
