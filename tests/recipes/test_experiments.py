"""The driver of experiments: what its files say is what the commands take; finished rows are kept; a page comes out."""

import importlib
import json

import cifar_resnets
import pytest
import run as driver
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from srt_distill.commands.parsing import CommandParser
from srt_distill.commands.run_parser import RunParser
from srt_distill.tasks.cifar.resnet import CifarResNet

ROOT = driver.ROOT
MANY_ROWS = {"label_free": pytest.mark.slow}
EXPERIMENTS = [
    pytest.param(path, id=path.stem, marks=MANY_ROWS.get(path.stem, ()))
    for path in sorted((ROOT / "recipes" / "experiments").glob("*.yaml"))
]


class Parsed(BaseException):
    """Thrown where a command would begin to work."""


@pytest.fixture
def parse_only(monkeypatch):
    for parser in (CommandParser, RunParser):

        def stop(self, words, read=parser.read):
            read(self, words)
            raise Parsed

        monkeypatch.setattr(parser, "read", stop)


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_rows_are_words_that_the_commands_take(path, parse_only, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    experiment = {"name": path.stem, **yaml.safe_load(path.read_text())}
    assert f"recipes/experiments/{path.name}" in path.read_text().splitlines()[0]
    assert {"title", "claim", "teacher", "tasks", "rows"} <= experiment.keys()
    monkeypatch.setattr(
        driver, "srt_distill", lambda words: importlib.import_module("srt_distill.commands.fit").run(words[1:])
    )
    with pytest.raises(Parsed):
        driver.open_tasks(experiment)
    for options in experiment["rows"].values():
        with pytest.raises(Parsed):
            if options and "fit" in options:
                driver.train(experiment, options["fit"], 0, tmp_path)
            else:
                driver.make_candidate(experiment, experiment["teacher"], options or {})


@pytest.fixture
def experiment(tiny_folder, tiny_davis, tmp_path, small_fit):
    fit = {
        **small_fit,
        "data.held_out": 2,
        "model.srt.radius": 1,
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 2,
    }
    path = tmp_path / "small.yaml"
    settings = {
        "title": "Small",
        "claim": "Nothing.",
        "teacher": [f"local-dir:{tiny_folder}"],
        "tasks": {"davis": str(tiny_davis), "davis.scale": 0.2, "davis.size_multiple": 8, "davis.sequences": ["cats"]},
        "seeds": [0, 1],
        "ensemble": "SRT",
        "rows": {"teacher": {}, "SRT": {"srt.radius": 1}, "student": {"fit": fit}},
    }
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def finished(folder):
    return {path: path.stat().st_mtime_ns for name in ("outcome.json", "finished") for path in folder.rglob(name)}


def test_a_stopped_experiment_goes_on_and_writes_its_page(experiment, tmp_path, monkeypatch):
    train = driver.train

    def stop_at_the_second_seed(experiment, fit, seed, folder):
        if seed == 1:
            raise KeyboardInterrupt
        train(experiment, fit, seed, folder)

    monkeypatch.setattr(driver, "train", stop_at_the_second_seed)
    with pytest.raises(KeyboardInterrupt):
        driver.run_experiment(experiment)
    done = finished(tmp_path / "work")
    assert len(done) == 4  # teacher, SRT and the first seed judged; one run trained
    monkeypatch.setattr(driver, "train", train)
    output = driver.run_experiment(experiment)
    assert done.items() <= finished(tmp_path / "work").items()

    page = (output / "README.md").read_text()
    assert "python recipes/experiments/run.py small.yaml" in page and str(tmp_path) not in page
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in page.splitlines() if line.startswith("| ")}
    assert [rows[name][1] for name in ("teacher", "SRT", "student")] == ["1", "9", "1"]
    assert "±" in rows["student"][2] and "±" not in rows["SRT"][2]
    numbers = json.loads((output / "results.json").read_text())["davis-2017"]
    assert len(numbers["student"]["scores"]) == 2 and len(numbers["SRT"]["scores"]) == 1
    assert Image.open(output / "figure.png").width > 300
    before = finished(tmp_path / "work")
    driver.run_experiment(experiment)
    assert finished(tmp_path / "work") == before


def test_cifar_networks_that_are_counted_are_not_run_again(tmp_path, monkeypatch):
    torch.manual_seed(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        pixels = torch.randint(256, (32, 32, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / "images" / name / "0.png")
    words = [str(tmp_path / "images"), str(tmp_path), "--radius", "1", "--output", str(tmp_path / "out")]
    for blocks in (1, 2):
        save_file(CifarResNet(blocks).state_dict(), tmp_path / f"cifar10_resnet{6 * blocks + 2}.safetensors")
        counted = []

        def count(weights, *rest, into=counted, measure=cifar_resnets.measure):
            into.append(weights.stem)
            return measure(weights, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(cifar_resnets, "measure", count)
            cifar_resnets.main(words)
        assert counted == ["cifar10_resnet14" if blocks == 2 else "cifar10_resnet8"]
    page = (tmp_path / "out" / "README.md").read_text()
    assert page.index("## ResNet-8") < page.index("## ResNet-14")
    assert page.count("| SRT d=1 edge |") == page.count("| mean of logits d=1 |") == 2
    assert "--radius 1`" in page and str(tmp_path) not in page
