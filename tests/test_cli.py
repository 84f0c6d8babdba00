"""The command line, end to end on small data, and what it says to bad input."""

import json
import subprocess
import sys

import pytest
import timm
import yaml

from srt_distill.backbone import hash_weights
from srt_distill.cli import COMMANDS, main
from srt_distill.runs import load_run


@pytest.fixture(scope="module")
def config(tiny_folder, tiny_davis, tmp_path_factory):
    """A complete run of six steps on tiny data."""
    folder = tmp_path_factory.mktemp("cli")
    source = {"class_path": "srt_distill.data.DavisFrames", "init_args": {"root": str(tiny_davis), "split": "train"}}
    settings = {
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "accelerator": "cpu",
            "max_steps": 6,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
        },
        "model": {"backbone": {"name": f"local-dir:{tiny_folder}"}, "srt": {"radius": 1}},
        "data": {
            "source": source,
            "crop_size": [32, 48],
            "batch_size": 2,
            "num_workers": 0,
            "held_out": 2,
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def run_folder(config):
    assert main(["fit", "--config", str(config)]) == 0
    return config.parent / "run"


def test_fit_leaves_a_run(run_folder):
    run = load_run(run_folder)
    assert run.step == 6
    assert run.data_settings["crop_size"] == [32, 48]
    assert (run_folder / "config.yaml").is_file()
    assert list((run_folder / "tensorboard").glob("events.*"))


def test_a_finished_run_is_not_overwritten(config, run_folder, capsys):
    before = hash_weights(load_run(run_folder).student)
    assert main(["fit", "--config", str(config)]) == 1
    assert "already holds a run; continue it with --resume last" in capsys.readouterr().err
    assert hash_weights(load_run(run_folder).student) == before


def test_a_killed_run_goes_on_to_the_same_end(config, run_folder, tmp_path):
    root = ["--trainer.default_root_dir", str(tmp_path / "half"), "--checkpoint_every", "1"]
    assert (
        main(["fit", "--config", str(config), *root, "--model.lr_scheduler", "ConstantLR", "--trainer.max_steps", "3"])
        == 0
    )
    assert main(["fit", "--config", str(config), *root, "--model.lr_scheduler", "ConstantLR", "--resume", "last"]) == 0
    whole = ["--trainer.default_root_dir", str(tmp_path / "whole"), "--model.lr_scheduler", "ConstantLR"]
    assert main(["fit", "--config", str(config), *whole]) == 0
    assert hash_weights(load_run(tmp_path / "half").student) == hash_weights(load_run(tmp_path / "whole").student)


def test_a_run_logs_where_it_is_told_and_says_how_to_look(config, tmp_path, capsys):
    folder = tmp_path / "run"
    words = ["--trainer.default_root_dir", str(folder), "--trainer.max_steps", "2", "--trainer.logger", "csv"]
    assert main(["fit", "--config", str(config), *words]) == 0
    table = folder / "csv" / "version_0" / "metrics.csv"
    said = capsys.readouterr().out
    assert f"look at it:  {table}" in said
    assert "tensorboard" not in said
    assert "val/gap_closed" in table.read_text()
    assert list((table.parent / "pictures").glob("*.png"))
    assert not (folder / "tensorboard").exists()


def test_export_evaluate_compare(run_folder, tiny_folder, tiny_davis, tmp_path, capsys):
    exported = tmp_path / "adapted"
    assert main(["export", "--checkpoint", str(run_folder), "--output", str(exported)]) == 0
    assert "max difference 0" in capsys.readouterr().out
    assert hash_weights(timm.create_model(f"local-dir:{exported}", pretrained=True)) == hash_weights(
        load_run(run_folder).student
    )

    small = ["--davis", str(tiny_davis), "--davis.scale", "0.2", "--davis.size_multiple", "8"]
    words = ["--backbone", str(exported), "--davis.sequences", "cats", "--output", str(tmp_path / "scores"), *small]
    assert main(["evaluate", *words]) == 0
    assert "cats" in capsys.readouterr().out
    assert (tmp_path / "scores" / "global_results-val.csv").is_file()

    words = ["--teacher", str(tiny_folder), "--student", str(run_folder), "--srt.radius", "1"]
    assert main(["compare", *words, *small, "--output", str(tmp_path / "report"), "--log", str(run_folder)]) == 0
    assert (run_folder / "tensorboard" / "compare" / "student").is_dir()
    results = json.loads((tmp_path / "report" / "results.json").read_text())
    assert [row["passes"] for row in results["costs"]] == [1, 9, 1]
    assert len({row["num_parameters"] for row in results["costs"]}) == 1
    assert (tmp_path / "report" / "report.html").is_file()


def test_help_of_the_program_needs_nothing_heavy():
    code = (
        "import sys; from srt_distill.cli import main; main(['--help']); print('torch' in sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "False"
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    try:
        status = main([command, "--help"])
    except SystemExit as end:
        status = end.code
    assert status == 0
    assert "usage: srt-distill" in capsys.readouterr().out


def test_python_dash_m_is_the_same_program():
    result = subprocess.run(
        [sys.executable, "-m", "srt_distill", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "0.1.0"


def test_an_unknown_command_names_the_known_ones(capsys):
    assert main(["fitt"]) == 2
    assert "no command 'fitt'; choose from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model.srt.radius", "8"], "shift radius 8 is not smaller than the patch side 8"),
        (["--data.crop_size", "[33, 48]"], "crop height 33 is not a multiple of patch side 8"),
        (["--model.layers", "[7]", "--model.layer_weights", "null"], "layer 7 is out of range"),
        (["--model.backbone", "vit_tinny_patch16_224"], "vit_tiny_patch16_224"),
        (["--data.source.init_args.root", "nowhere"], "nowhere"),
        (["--resume", "last"], "holds no run to resume"),
    ],
)
def test_bad_settings_are_refused_before_training(config, tmp_path, capsys, words, says):
    status = main(["fit", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "new"), *words])
    assert status == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "new" / "checkpoints").exists()


@pytest.mark.parametrize("words", [["--model.srt.radios", "2"], ["--data.crop_sise", "32"], ["--model.loss", "l3"]])
def test_a_typo_is_refused_by_the_parser(config, tmp_path, capsys, words):
    with pytest.raises(SystemExit) as exit_info:
        main(["fit", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "new"), *words])
    assert exit_info.value.code == 2
    assert words[0].removeprefix("--").split(".")[-1] in capsys.readouterr().err


def test_a_typo_in_the_yaml_is_refused(config, tmp_path, capsys):
    settings = yaml.safe_load(config.read_text())
    settings["model"]["shift_radios"] = 2
    (tmp_path / "typo.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(tmp_path / "typo.yaml")])
    assert "shift_radios" in capsys.readouterr().err


def test_visualize_draws_any_layer_and_facet(tiny_folder, run_folder, tiny_davis, tmp_path, capsys):
    frame = tiny_davis / "JPEGImages" / "480p" / "cats" / "00000.jpg"
    words = ["--backbone", str(tiny_folder), "--student", str(run_folder), "--layers", "[0, '1:key']"]
    sizes = ["--srt.radius", "1", "--short_side", "32"]
    assert main(["visualize", *words, *sizes, "--sources", f"[{frame}]", "--output", str(tmp_path)]) == 0
    written = capsys.readouterr().out.split()
    assert (
        {path.name for path in tmp_path.iterdir()}
        == {"00000-pca.png", "00000-noise.png"}
        == {path.rsplit("/")[-1] for path in written}
    )
