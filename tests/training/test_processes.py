"""One run over several processes and nodes: as if it were one, in what it learns and in what it scores."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import yaml

from srt_distill.backbone import hash_weights
from srt_distill.runs import find_checkpoint, load_run

BATCH = 4
"""Images per step, over all processes."""


@pytest.fixture(scope="module")
def config(tiny_folder, tiny_davis, tmp_path_factory):
    """A run of four steps that teaches relations too; three images are held out, so one of four processes has none."""
    source = {"class_path": "srt_distill.data.DavisFrames", "init_args": {"root": str(tiny_davis), "split": "train"}}
    settings = {
        "trainer": {"accelerator": "cpu", "max_steps": 4, "enable_progress_bar": False, "num_sanity_val_steps": 0},
        "model": {
            "backbone": {"name": f"local-dir:{tiny_folder}"},
            "srt": {"radius": 1},
            "layers": [-1, "-1:prefix"],
            "layer_weights": [1, 1],
            "relations": {"weight": 1.0},
        },
        "data": {"source": source, "crop_size": [32, 48], "num_workers": 0, "held_out": 3},
    }
    path = tmp_path_factory.mktemp("processes") / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def start(launcher, config, folder, num_processes, *words, **given):
    """Start `srt-distill fit` by a launcher; each process has its part of a batch."""
    options = ["--data.batch_size", str(BATCH // num_processes), "--trainer.default_root_dir", str(folder)]
    command = [sys.executable, "-m", *launcher, "srt_distill", "fit", "--config", str(config), *options, *words]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **given}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=settings)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def require_success(processes):
    for process in processes:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said


def require_the_same(folder, other):
    """Two runs that differ by what sums in another order make of them."""
    ours, theirs = load_run(folder), load_run(other)
    assert ours.step == theirs.step == 4
    assert ours.scores == {name: pytest.approx(value, rel=1e-4, abs=1e-5) for name, value in theirs.scores.items()}
    assert "val/relations_closed" in ours.scores and "val/effective_rank_student" in ours.scores
    for name, weight in theirs.student.state_dict().items():
        assert torch.allclose(ours.student.state_dict()[name], weight, rtol=1e-4, atol=1e-5), name


@pytest.fixture(scope="module")
def alone(config):
    folder = config.parent / "alone"
    require_success([start([], config, folder, 1)])
    scores = torch.load(find_checkpoint(folder), weights_only=True)["scores"]
    assert scores["val/gap_closed"] != 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 4])
def test_processes_train_and_score_as_one(config, alone, tmp_path, num_processes):
    ddp = ["--trainer.devices", str(num_processes), "--trainer.strategy", "ddp"]
    require_success([start([], config, tmp_path / "run", num_processes, *ddp)])
    require_the_same(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.parametrize("per_node", [1, 2])
def test_two_nodes_under_torchrun_train_and_score_as_one(config, alone, tmp_path, per_node):
    torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc_per_node", str(per_node)]
    torchrun += ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    ddp = ["--trainer.num_nodes", "2", "--trainer.devices", str(per_node), "--trainer.strategy", "ddp"]
    launchers = [[*torchrun, "--node_rank", str(node), "-m"] for node in range(2)]
    require_success([start(each, config, tmp_path / "run", 2 * per_node, *ddp) for each in launchers])
    require_the_same(tmp_path / "run", alone)


def start_under_slurm(config, folder, *words):
    """Start what `srun` starts on two nodes of one task each, with the variables that it sets."""
    port = str(free_port())
    started = []
    for node in range(2):
        slurm = {"JOB_ID": "1", "JOB_NAME": "adapt", "NODELIST": "127.0.0.1", "NNODES": "2", "NTASKS": "2"}
        slurm |= {"NTASKS_PER_NODE": "1", "PROCID": str(node), "NODEID": str(node), "LOCALID": "0"}
        given = {**{f"SLURM_{name}": value for name, value in slurm.items()}, "MASTER_PORT": port}
        started.append(start([], config, folder, 2, *words, *TWO_NODES, **given))
    return started


TWO_NODES = ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy", "ddp"]


@pytest.mark.slow
def test_two_nodes_under_slurm_stop_together_and_go_on(config, tmp_path):
    """A scheduler's TERM that reaches one process alone stops both after the same step."""
    words = ["--trainer.max_steps", "60", "--checkpoint_every", "1", "--resume", "auto"]
    require_success(start_under_slurm(config, tmp_path / "whole", *words))
    begun = start_under_slurm(config, tmp_path / "stopped", *words)
    while not (tmp_path / "stopped" / "checkpoints" / "last.ckpt").exists():
        time.sleep(0.01)
    begun[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=300)[0] for process in begun]
    assert [process.returncode for process in begun] == [128 + signal.SIGTERM] * 2, said
    assert 0 < load_run(tmp_path / "stopped").step < 60
    require_success(start_under_slurm(config, tmp_path / "stopped", *words))
    whole, stopped = (load_run(tmp_path / name) for name in ("whole", "stopped"))
    assert stopped.step == 60 and hash_weights(stopped.student) == hash_weights(whole.student)
    assert stopped.scores == whole.scores


@pytest.mark.slow
def test_processes_fill_a_cache_at_the_same_time(config, tmp_path):
    def fill(folder, *words):
        options = ["--data.views", "3", "--data.batch_size", "2", "--output", str(folder), "--crops_per_shard", "3"]
        command = [sys.executable, "-m", "srt_distill", "cache", "--config", str(config), *options, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    require_success([fill(tmp_path / "alone")])
    require_success([fill(tmp_path / "shared", "--num_processes", "3", "--process", str(i)) for i in range(3)])
    alone, shared = ({file.name: file.read_bytes() for file in (tmp_path / f).iterdir()} for f in ("alone", "shared"))
    assert alone == shared
    assert sum(name.endswith(".safetensors") for name in alone) == 7  # 21 crops, three each
