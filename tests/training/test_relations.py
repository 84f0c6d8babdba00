"""Relations between tokens as a training loss: against a literal loop, their gradient, and what refuses them."""

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.runs import headline
from srt_distill.training.held_out_scores import crop_margin
from srt_distill.training.losses import relation_distance
from srt_distill.training.settings import RelationOptions
from srt_distill.training.targets import AllShifts, SampledShifts
from tests.oracles import relation_distance_literally
from tests.training.distilling import RADIUS, distillation, images, loader, quiet_trainer


@given(st.integers(1, 4), st.integers(2, 5), st.sampled_from([None, 1, 2]), st.sampled_from([0.1, 1.0]))
def test_as_a_loop_over_tokens(height, width, radius, temperature):
    ours, theirs = torch.randn(2, 2, 6, height, width, generator=torch.Generator().manual_seed(height * 7 + width))
    expected = relation_distance_literally(ours, theirs, temperature, radius)
    assert relation_distance(ours, theirs, temperature, radius).item() == pytest.approx(expected, abs=1e-5)


def test_blind_to_lengths_and_to_what_all_tokens_share_in_rotation():
    maps = torch.randn(1, 8, 4, 5, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    moved = 3 * torch.einsum("dc,bchw->bdhw", rotation, maps)
    assert relation_distance(moved, maps).item() == pytest.approx(0, abs=1e-6)


def test_gradient_is_finite_and_points_downhill():
    ours = torch.randn(1, 8, 4, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    theirs = torch.randn(1, 8, 4, 5, generator=torch.Generator().manual_seed(1))
    before = relation_distance(ours, theirs, window_radius=1)
    before.backward()
    assert ours.grad is not None and ours.grad.isfinite().all() and ours.grad.abs().sum() > 0
    after = relation_distance(ours.detach() - 0.1 * ours.grad / ours.grad.norm(), theirs, window_radius=1)
    assert after < before


@pytest.mark.parametrize(("size", "temperature"), [((1, 1), 0.1), ((2, 2), 0.0)])
def test_refused_where_there_is_nothing_to_relate(size, temperature):
    maps = torch.randn(1, 4, *size)
    with pytest.raises(ValueError, match=r"relations\.weight 0"):
        relation_distance(maps, maps, temperature)


def test_sampled_shifts_would_bias_them():
    with pytest.raises(ValueError, match=r"SampledShifts\(4\).*AllShifts"):
        SampledShifts(4).check("mse", relations=True)
    AllShifts().check("mse", relations=True)


class Watch(pl.Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(trainer.callback_metrics["train/relations_layer_-1"].item())


def test_trained_relations_come_nearer(tmp_path, tiny_folder):
    watch, layers = Watch(), (-1, "-1:prefix")
    module = distillation(tiny_folder, relations=RelationOptions(weight=100.0), layers=layers, readout="bilinear")
    quiet_trainer(tmp_path, max_steps=30, callbacks=[watch]).fit(module, loader())
    assert sum(watch.seen[-2:]) < 0.9 * sum(watch.seen[:2])


def test_held_out_relations_tell_whether_it_helped(tmp_path, tiny_folder):
    """1 - D(student, SRT) / D(teacher, SRT), beside the gap of values; 0 for the untouched student."""
    module = distillation(tiny_folder, relations=RelationOptions(weight=100.0), layers=(-1, "-1:prefix"))
    quiet_trainer(tmp_path).validate(module, loader(4, seed=1), verbose=False)
    scores = module.trainer.callback_metrics
    assert (
        module.held_out.headline == headline(scores) == "val/relations_closed" and scores[module.held_out.headline] == 0
    )
    quiet_trainer(tmp_path, max_steps=30).fit(module, loader(), loader(4, seed=1))
    after = module.trainer.callback_metrics[module.held_out.headline].item()
    crops = module.normalization(images(4, seed=1))
    with torch.no_grad():
        target = module.frozen.srt(crops)[0]
        inner = crop_margin(crops, RADIUS)
        ours, theirs = module.student_features(inner)[0], module.frozen.single(inner)[0]
    expected = 1 - relation_distance(ours, target) / relation_distance(theirs, target)
    assert after == pytest.approx(expected.item(), rel=1e-4) and after > 0


def test_values_alone_are_told_by_the_gap(tmp_path, tiny_folder):
    module = distillation(tiny_folder)
    quiet_trainer(tmp_path).validate(module, loader(4), verbose=False)
    assert headline(module.trainer.callback_metrics) == module.held_out.headline == "val/gap_closed"
    assert "val/relations_closed" not in module.trainer.callback_metrics
