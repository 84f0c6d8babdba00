"""The command line of a run: recipe, config and words, short forms, the seed, the run folder, and its short help."""

from pathlib import Path

import pytest
import torch
import yaml

from srt_distill.backbone.options import BackboneOptions
from srt_distill.commands.fit import FitParser, one_round
from srt_distill.commands.run_parser import SOURCES
from srt_distill.training.configs import DEFAULT, find_config
from srt_distill.training.optimization import default_optimizer

BASE = ["--backbone", "vit_tiny_patch16_224", "--data.source", "ImageFolder", "--data.source.root", "photos"]


@pytest.fixture(scope="module")
def parser():
    return FitParser()


def test_the_recipe_comes_first_then_the_config_then_the_words(parser, tmp_path):
    recipe = yaml.safe_load(find_config(DEFAULT).read_text())
    plain = parser.read(BASE)
    assert plain.trainer.max_steps == recipe["trainer"]["max_steps"]
    assert plain.model.srt.interpolation == recipe["model"]["srt"]["interpolation"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"trainer": {"max_steps": 7}, "data": {"batch_size": 3}}))
    config = parser.read([*BASE, "--config", str(file), "--data.batch_size", "5"])
    assert (config.trainer.max_steps, config.data.batch_size) == (7, 5)
    assert config.model.srt.interpolation == plain.model.srt.interpolation


def test_short_forms(parser):
    config = parser.read([*BASE, "--model.srt", "2", "--model.trainable=norm", "--crop_size", "[32, 48]"])
    assert (config.model.backbone.name, config.model.srt.radius) == ("vit_tiny_patch16_224", 2)
    assert (config.model.trainable.part, list(config.data.crop_size)) == ("norm", [32, 48])


@pytest.mark.parametrize("option", ["--model.optimizer.lr", "--optimizer.lr"])
def test_the_learning_rate_alone_keeps_the_recipes_optimiser(parser, option):
    optimizer = parser.read([*BASE, option, "3e-4"]).model.optimizer
    assert optimizer.class_path == "torch.optim.AdamW"
    assert (optimizer.init_args.lr, optimizer.init_args.weight_decay) == (3e-4, 0.0)
    other = parser.read([*BASE, "--optimizer", "SGD", option, "0.1"]).model.optimizer
    assert (other.class_path, other.init_args.lr) == ("torch.optim.SGD", 0.1)


def test_the_recipes_optimiser_is_that_of_the_library(parser, tiny_folder, photographs):
    config = parser.read(["--backbone", f"local-dir:{tiny_folder}", *BASE[2:-1], str(photographs)])
    model = parser.make_run(config, BackboneOptions(f"local-dir:{tiny_folder}"), None).model
    weights = [torch.nn.Parameter(torch.zeros(1))]
    ours, theirs = model._make_optimizer(weights), default_optimizer(weights)
    assert (type(ours), ours.defaults) == (type(theirs), theirs.defaults)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "local-dir:no/such/folder"])
def test_a_backbone_out_of_reach_is_said_and_no_more(parser, photographs, monkeypatch, tmp_path, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = parser.read(["--backbone", name, *BASE[2:-1], str(photographs)])
    with pytest.raises(OSError, match=name.removeprefix("local-dir:")) as caught:
        parser.make_run(config, BackboneOptions(name), None)
    assert "compute_fn" not in str(caught.value) and "HeldOut" not in str(caught.value)


@pytest.mark.parametrize("words", [["--trainer.max_epochs", "3"], ["--trainer.max_time=00:01:00:00"]])
def test_another_end_takes_the_place_of_the_recipes_steps(parser, words):
    assert parser.read([*BASE, *words]).trainer.max_steps == -1
    assert parser.read([*BASE, *words, "--trainer.max_steps", "9"]).trainer.max_steps == 9


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("csv", "csv"),
        ("WandbLogger", "wandb"),
        ("MLFlowLogger", "mlflow"),
        ("[tensorboard, csv]", ["tensorboard", "csv"]),
    ],
)
def test_a_logger_is_one_word_and_written_as_one(parser, word, wanted):
    for words in (["--trainer.logger", word], [f"--trainer.logger={word}"]):
        config = parser.read([*BASE, *words])
        assert config.trainer.logger == wanted
        assert yaml.safe_load(parser.write(config))["trainer"]["logger"] == wanted


def test_a_logger_may_be_written_out_or_none(parser):
    config = parser.read([*BASE, "--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"])
    assert config.trainer.logger.class_path == "pytorch_lightning.loggers.CSVLogger"
    assert config.trainer.logger.init_args.save_dir == "logs"
    assert parser.read([*BASE, "--trainer.logger", "false"]).trainer.logger is False
    assert parser.read(BASE).trainer.logger is None


def test_one_seed_is_that_of_crops_and_shifts_and_of_every_round(parser):
    config = parser.read([*BASE, "--seed_everything", "5", "--rounds", "2"])
    assert (config.model.seed, config.data.seed) == (5, 5)
    second = one_round(config, Path("runs/round-2"))
    assert (second.rounds, second.trainer.default_root_dir, config.rounds) == (1, "runs/round-2", 2)


def test_the_run_folder_may_be_in_the_home_folder_and_no_address(parser, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = parser.read([*BASE[:-1], "~/photos", "--trainer.default_root_dir=~/runs/mine"])
    assert config.trainer.default_root_dir == "/home/me/runs/mine"
    assert config.data.source.init_args.root == "/home/me/photos"
    with pytest.raises(ValueError, match=r"--trainer\.default_root_dir s3:/+bucket/mine is an address"):
        parser.read([*BASE, "--trainer.default_root_dir", "s3://bucket/mine"])


def test_names_made_of_digits_are_names(parser):
    words = ["--backbone", "1e10", *BASE[2:-1], "2017", "--trainer.default_root_dir", "0012"]
    config = parser.read(words)
    assert (config.model.backbone.name, config.data.source.init_args.root) == ("1e10", "2017")
    assert config.trainer.default_root_dir == "0012"


def test_a_typo_names_the_nearest_option_in_a_few_lines(parser, capsys):
    with pytest.raises(SystemExit) as end:
        parser.read([*BASE, "--model.srt.radios", "3"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and "--model.srt.radius" in said and said.count("\n") < 6


def test_an_unknown_source_names_those_there_are(parser, capsys):
    with pytest.raises(SystemExit):
        parser.read([*BASE[:2], "--data.source", "ImageFoldr"])
    assert "ImageFolder" in capsys.readouterr().err


def test_a_typo_in_an_option_of_a_source_names_the_nearest(parser, capsys):
    with pytest.raises(SystemExit) as end:
        parser.read([*BASE[:4], "--data.source.rooot", "photos"])
    assert end.value.code == 2 and "nearest: root" in capsys.readouterr().err


def test_a_logger_that_is_none_names_those_there_are(parser, capsys):
    with pytest.raises(SystemExit) as end:
        parser.read([*BASE, "--trainer.logger", "comet"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and "trainer.logger 'comet' is none" in said and "mlflow" in said
    assert len(said.splitlines()) == 2


def test_the_short_help_names_every_source(parser, capsys):
    with pytest.raises(SystemExit):
        parser.read(["--help"])
    said = capsys.readouterr().out
    assert [name for name in SOURCES if name not in said] == []


def test_the_short_help_fits_a_screen_or_two(parser, capsys):
    with pytest.raises(SystemExit) as end:
        parser.read(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and said.count("\n") < 100
    assert all(name in said for name in ("--model.backbone.name", "--data.source", "--trainer.max_steps", "--resume"))
