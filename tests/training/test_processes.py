"""One run over several processes and nodes: as if it were one, in what it learns and in what it scores."""

import os
import socket
import subprocess
import sys

import pytest
import torch
import yaml

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


def start(launcher, config, folder, num_processes, *words):
    """Start `srt-distill fit` by a launcher; each process has its part of a batch."""
    options = ["--data.batch_size", str(BATCH // num_processes), "--trainer.default_root_dir", str(folder)]
    command = [sys.executable, "-m", *launcher, "srt_distill", "fit", "--config", str(config), *options, *words]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=settings)


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc_per_node", str(per_node)]
    torchrun += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
    ddp = ["--trainer.num_nodes", "2", "--trainer.devices", str(per_node), "--trainer.strategy", "ddp"]
    launchers = [[*torchrun, "--node_rank", str(node), "-m"] for node in range(2)]
    require_success([start(each, config, tmp_path / "run", 2 * per_node, *ddp) for each in launchers])
    require_the_same(tmp_path / "run", alone)
