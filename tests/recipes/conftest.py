"""What tests of experiments share: a driver that writes to the test's folder, and a student of a second."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "experiments"))

import run as driver


@pytest.fixture
def small_fit(tiny_davis, tmp_path, monkeypatch):
    """Options of `srt-distill fit` for one small crop per step, with results and runs in the test's folder."""
    monkeypatch.setattr(driver, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(driver, "WORK", tmp_path / "work")
    return {
        "data.source": "DavisFrames",
        "data.source.root": str(tiny_davis),
        "data.crop_size": "[32,32]",
        "data.batch_size": 1,
        "data.num_workers": 0,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": False,
    }
