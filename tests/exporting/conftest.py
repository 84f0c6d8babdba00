"""A finished run of a tiny model, for every format."""

from typing import get_args

import pytest
import pytorch_lightning as pl

from srt_distill.exporting import Format, export_student
from srt_distill.runs import load_run
from srt_distill.training.distillation import SRTDistillation
from tests.test_distillation import loader


@pytest.fixture(scope="package")
def run(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    module = SRTDistillation(f"local-dir:{tiny_folder}", shift_radius=1)
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.fit(module, loader(), loader(4, seed=1))
    trainer.save_checkpoint(folder / "run.ckpt")
    return load_run(folder / "run.ckpt")


@pytest.fixture(scope="package")
def exported(run, tmp_path_factory):
    """That run, exported in every format."""
    return export_student(run, tmp_path_factory.mktemp("exports") / "adapted", get_args(Format), budget=0.0)
