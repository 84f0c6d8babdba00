"""A finished run of a tiny model, for every format."""

from typing import get_args

import pytest

from srt_distill.exporting import Format, export_student
from srt_distill.runs import load_run
from tests.training.distilling import distillation, loader, quiet_trainer


@pytest.fixture(scope="package")
def run(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trainer = quiet_trainer(folder, max_epochs=1)
    trainer.fit(distillation(tiny_folder), loader(), loader(4, seed=1))
    trainer.save_checkpoint(folder / "run.ckpt")
    return load_run(folder / "run.ckpt")


@pytest.fixture(scope="package")
def exported(run, tmp_path_factory):
    """That run, exported in every format."""
    return export_student(run, tmp_path_factory.mktemp("exports") / "adapted", get_args(Format), budget=0.0)
