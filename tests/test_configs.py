"""Every config is a complete run that the parser takes, with a header that says what it is."""

from pathlib import Path

import pytest
import yaml

from srt_distill.cli import main

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))


def test_there_are_configs():
    assert {"default", "demo", "deit_tiny_davis", "dino_vits16_davis", "authors_davis"} <= {
        path.stem for path in CONFIGS
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_parser_takes_every_config(path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["fit", "--config", str(path), "--print_config"])
    assert exit_info.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for section, values in yaml.safe_load(path.read_text()).items():
        if not isinstance(values, dict):
            assert printed[section] == values
            continue
        for name in values:
            assert name in printed[section]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_says_where_it_comes_from_and_how_to_run_it(path):
    text = path.read_text()
    assert f"srt-distill fit --config configs/distill/{path.name}" in text
    assert "Source:" in text
