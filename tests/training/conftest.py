"""What makes modules and trainers of small trainings, for the tests of this folder."""

from functools import partial

import pytest

from tests.training.distilling import distillation, quiet_trainer


@pytest.fixture
def make_module(tiny_folder):
    return partial(distillation, tiny_folder)


@pytest.fixture
def make_trainer(tmp_path):
    return partial(quiet_trainer, tmp_path)
