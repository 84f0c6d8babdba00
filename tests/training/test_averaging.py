"""Averaged weights: what they are, that they suit runs of any length, and that a run goes on from its own weights."""

from functools import partial

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch.optim.lr_scheduler import ConstantLR

from srt_distill.backbone import hash_weights
from srt_distill.data import DavisFrames, UnlabeledImages
from srt_distill.runs import load_run, read_checkpoint
from srt_distill.training.averaging import AveragedWeights
from srt_distill.training.fit import fit
from srt_distill.training.targets import SampledShifts
from tests.training.distilling import distillation

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "logger": False, "num_sanity_val_steps": 0}


@pytest.fixture
def train(tiny_folder, tiny_davis, tmp_path):
    def run(folder, callbacks, max_steps=4, resume=None, held_out=2, **options):
        model = distillation(tiny_folder, target=SampledShifts(2), lr_scheduler=partial(ConstantLR, factor=1.0))
        data = {"crop_size": (32, 48), "margin": 1, "batch_size": 2, "num_workers": 0, "patch": 8}
        images = UnlabeledImages(DavisFrames(str(tiny_davis), split="train"), held_out=held_out, **data)
        settings = {"max_steps": max_steps, "resume": resume, "callbacks": callbacks, **QUIET, **options}
        return fit(model, images, tmp_path / folder, **settings)

    return run


@pytest.mark.parametrize("eta", [0.0, 3.0])
def test_the_average_is_its_formula_and_what_stands_still_stays_to_the_bit(eta):
    values = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    average = AveragedWeights(eta)._average
    mean, weights = values[0], torch.tensor([1.0])
    for t in range(2, 21):  # the first is copied
        mean = average(mean, values[t - 1], torch.tensor(t - 1))
        share = (1 + eta) / (t + eta)
        weights = torch.cat([weights * (1 - share), torch.tensor([share])])
    torch.testing.assert_close(mean, (weights[:, None] * values).sum(0))
    if eta == 0:
        torch.testing.assert_close(mean, values.mean(0))
    assert torch.equal(average(values, values, torch.tensor(7)), values)
    with pytest.raises(ValueError, match=r"eta -1\.0 is negative"):
        AveragedWeights(-1.0)


def test_a_short_run_keeps_what_it_learned(train):
    usual, ours = (train(type(c).__name__, [c], 24) for c in (EMAWeightAveraging(), AveragedWeights()))
    plain = train("plain", [], 24)
    gaps = [result.scores["val/gap_closed"] for result in (usual, ours, plain)]
    assert gaps[0] < 0.5 * gaps[2] and gaps[1] > 0.8 * gaps[2]


def test_scores_are_of_what_is_saved_and_a_run_goes_on_from_its_own_weights(train, tmp_path):
    first = train("parts", [AveragedWeights()], 3, checkpoint_every=0)
    content = read_checkpoint(tmp_path / "parts" / "checkpoints" / "last.ckpt")
    raw, averaged = content["current_model_state"], content["state_dict"]
    assert not torch.equal(raw["student.norm.bias"], averaged["student.norm.bias"])
    assert torch.equal(raw["teacher.norm.bias"], averaged["teacher.norm.bias"])
    run = load_run(tmp_path / "parts")
    assert run.scores["val/gap_closed"] == pytest.approx(first.scores["val/gap_closed"])

    train("parts", [AveragedWeights()], 6, resume="last")
    train("whole", [AveragedWeights()], 6)
    assert hash_weights(load_run(tmp_path / "parts").student) == hash_weights(load_run(tmp_path / "whole").student)
