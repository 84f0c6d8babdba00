"""Training the student: what moves, what never moves, what is logged, what survives."""

from functools import partial

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from srt_distill.backbone import build_backbone, describe_backbone, hash_weights, load_backbone, save_backbone
from srt_distill.backbone.options import BackboneOptions
from srt_distill.ensemble import (
    PerturbationMean,
    StochasticResonance,
    WideShiftMean,
    scale_changes,
    whole_patch_shifts,
)
from srt_distill.ensemble.baselines import InterpolatedFeatures
from srt_distill.ensemble.shifts import lattice_shifts
from srt_distill.runs import load_run
from srt_distill.training.distillation import SRTDistillation
from srt_distill.training.losses import feature_distance
from srt_distill.training.optimization import one_cycle
from srt_distill.training.settings import PenaltyOptions, TrainableOptions
from srt_distill.training.targets import SampledShifts
from tests.training.distilling import distillation, fast_adamw, images, loader, radius, ready


def test_training_closes_the_gap_and_leaves_the_teacher_alone(make_module, make_trainer, tiny_folder):
    module = make_module()
    trainer = make_trainer(max_epochs=12)
    trainer.fit(module, loader(), loader(4, seed=1))
    original = load_backbone(f"local-dir:{tiny_folder}")
    assert hash_weights(module.teacher) == hash_weights(original)
    assert hash_weights(module.student) != hash_weights(original)
    assert trainer.callback_metrics["val/gap_closed"] > 0.1
    student = trainer.callback_metrics["val/equivariance_error_student"]
    assert student < trainer.callback_metrics["val/equivariance_error_teacher"]


def test_an_untouched_student_has_closed_no_gap(make_module, make_trainer):
    module = make_module()
    trainer = make_trainer()
    trainer.validate(module, loader(4), verbose=False)
    assert trainer.callback_metrics["val/gap_closed"] == 0
    student = trainer.callback_metrics["val/equivariance_error_student"]
    assert student == trainer.callback_metrics["val/equivariance_error_teacher"] > 0


def test_the_classifier_is_frozen_and_unchanged(make_module, make_trainer):
    module = make_module()
    make_trainer(max_epochs=1).fit(module, loader())
    assert torch.equal(module.student.head.weight, module.teacher.head.weight)
    assert not module.student.head.weight.requires_grad


def test_the_teacher_stays_in_eval_mode_and_out_of_the_optimiser(make_module, make_trainer):
    module = make_module()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, loader())
    module.train()
    assert not any(m.training for m in (*module.teacher.modules(), *module.student.modules()))
    teacher = {id(p) for p in module.teacher.parameters()}
    assert teacher.isdisjoint(id(p) for group in trainer.optimizers[0].param_groups for p in group["params"])
    assert not any(p.requires_grad for p in module.teacher.parameters())


@pytest.mark.parametrize(
    ("settings", "moves", "stays"),
    [
        ({"trainable": "all"}, ["blocks.0.attn.qkv.weight", "norm.weight", "pos_embed", "cls_token"], []),
        ({"trainable": "last_n"}, ["blocks.1.mlp.fc1.weight"], ["blocks.0.mlp.fc1.weight", "pos_embed"]),
        ({"trainable": "norm"}, ["blocks.0.norm1.weight", "norm.bias"], ["blocks.0.mlp.fc1.weight"]),
        ({"trainable": "bias"}, ["blocks.0.mlp.fc1.bias"], ["blocks.0.mlp.fc1.weight", "blocks.0.norm1.weight"]),
        ({"layers": [0]}, ["blocks.0.mlp.fc2.weight"], ["blocks.1.mlp.fc2.weight"]),
        ({"layers": [-1], "norm": False}, ["blocks.1.mlp.fc2.weight"], ["norm.weight"]),
    ],
)
def test_only_the_chosen_weights_move(make_module, make_trainer, settings, moves, stays):
    if "trainable" in settings:
        settings = {"trainable": TrainableOptions(settings["trainable"])}
    module = make_module(**settings)
    make_trainer(max_epochs=2).fit(module, loader())
    student, teacher = dict(module.student.named_parameters()), dict(module.teacher.named_parameters())
    for name in moves:
        assert not torch.equal(student[name], teacher[name]), name
    for name in stays:
        assert torch.equal(student[name], teacher[name]), name


@pytest.mark.parametrize("loss", ["mse", "l2", "l1", "smooth_l1", "cosine"])
def test_every_loss_trains(make_module, make_trainer, loss):
    module = make_module(loss=loss, layers=[0, -1], layer_weights=[0.5, 1.0])
    trainer = make_trainer(max_epochs=8)
    trainer.fit(module, loader(), loader(4, seed=1))
    metrics = trainer.callback_metrics
    assert metrics["val/gap_closed"] > 0.02
    expected = 0.5 * metrics["train/loss_layer_0"] + metrics["train/loss_layer_-1"]
    assert metrics["train/loss"].item() == pytest.approx(expected.item(), rel=1e-5)


SPECS = [-1, "-1:prefix", "1:key"]


@pytest.fixture(scope="module")
def test_vit_folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("backbones") / "test_vit"
    save_backbone(build_backbone({"architecture": "test_vit", "num_classes": 0}), folder)
    return folder


def test_twenty_steps_lower_the_loss_of_tokens_class_token_and_keys(test_vit_folder, make_trainer):
    module = SRTDistillation(BackboneOptions(f"local-dir:{test_vit_folder}"), layers=SPECS, optimizer=fast_adamw)
    coarse = torch.rand(4, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    batch = (torch.nn.functional.interpolate(coarse, (38, 54), mode="bicubic").clamp(0, 1) * 255).byte()

    def losses():
        with torch.no_grad():
            pictures = module.normalization(batch)
            maps = module.student_features(pictures[..., 3:-3, 3:-3])
            return [feature_distance(m, t).item() for m, t in zip(maps, module.frozen.srt(pictures))]

    trainer = make_trainer(max_epochs=20)
    before = losses() if ready(module) else []
    trainer.fit(module, DataLoader(batch, batch_size=4), DataLoader(batch, batch_size=4))
    assert trainer.global_step == 20
    for spec, old, new in zip(SPECS, before, losses()):
        assert new < 0.9 * old, spec
        assert trainer.callback_metrics[f"val/gap_closed_layer_{spec}"].item() == pytest.approx(1 - new / old, abs=1e-3)
        assert f"train/loss_layer_{spec}" in trainer.callback_metrics
    hidden = module.frozen.srt(module.normalization(batch))
    assert [tuple(maps.shape) for maps in hidden] == [(4, 64, 2, 3), (4, 64, 1, 1), (4, 64, 2, 3)]


@pytest.mark.parametrize("unit_tokens", [False, True])
def test_sampled_shifts_give_the_full_gradient_in_expectation(make_module, make_trainer, unit_tokens):
    module = ready(make_module(unit_tokens=unit_tokens)).double()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (module.normalization.mean, module.normalization.std))
    pictures = ((images(2) / 255).double() - mean) / std
    weight = module.student.blocks[0].mlp.fc1.weight

    def gradient(shifts, finish=lambda target: target):
        target = finish(module.frozen.srt(pictures, shifts)[-1])
        crop = pictures[..., 1:-1, 1:-1]
        # in float64 throughout, so that the two sides agree to rounding
        loss = (module.student_features(crop)[-1] - target).square().mean()
        return torch.autograd.grad(loss, weight)[0]

    lattices = [lattice_shifts(1, 4, (y, x)) for y in range(3) for x in range(3)]
    full = gradient(module.frozen.srt.shifts)
    draws = [gradient(shifts) for shifts in lattices]
    assert torch.allclose(torch.stack(draws).mean(0), full, rtol=1e-9, atol=1e-12)
    assert (draws[0] - full).abs().max() > 1e-6 * full.abs().max()  # single draws do differ
    if unit_tokens:  # brought to length 1 after the average, as the cosine does, draws would be biased
        unit = partial(torch.nn.functional.normalize, dim=1)
        late = torch.stack([gradient(shifts, unit) for shifts in lattices]).mean(0)
        assert (late - gradient(module.frozen.srt.shifts, unit)).norm() > 1e-4 * full.norm()


def test_unit_tokens_are_trained_and_measured_as_label_propagation_sees_them(make_module, make_trainer):
    module, trainer = make_module(unit_tokens=True, layers=[-1, 0]), make_trainer(max_epochs=8)
    trainer.fit(module, loader(), loader(4, seed=1))
    assert trainer.callback_metrics["val/gap_closed"] > 0.02
    pictures = module.normalization(images(2))
    for maps, target in zip(module.student_features(pictures[..., 1:-1, 1:-1]), module.frozen.srt(pictures)):
        torch.testing.assert_close(maps.norm(dim=1), torch.ones(2, 4, 6))
        assert (target.norm(dim=1) < 1).all()


def test_a_smoothed_target_is_measured_from_the_plain_single_pass(make_module, make_trainer):
    plain = ready(make_module(layers=[-1, "-1:prefix"]))
    smooth = radius(interpolation="bilinear")
    module, trainer = make_module(layers=[-1, "-1:prefix"], srt=smooth), make_trainer(max_epochs=8)
    trainer.validate(module, loader(4, seed=1), verbose=False)
    assert trainer.callback_metrics["val/gap_closed_layer_-1"] == 0, "an untouched student has closed nothing"
    pictures = module.normalization(images(2))
    (rough, token), (smooth, same_token) = plain.frozen.srt(pictures), module.frozen.srt(pictures)
    rows = torch.einsum(
        "k,kbchw->bchw", torch.tensor([0.125, 0.75, 0.125]), torch.stack([rough[..., i : i + 2, :] for i in range(3)])
    )
    both = torch.einsum(
        "k,kbchw->bchw", torch.tensor([0.125, 0.75, 0.125]), torch.stack([rows[..., i : i + 4] for i in range(3)])
    )
    torch.testing.assert_close(smooth[..., 1:-1, 1:-1], both, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(token, same_token)
    trainer.fit(module, loader(), loader(4, seed=1))
    assert trainer.callback_metrics["val/gap_closed_layer_-1"] > 0.02


@pytest.mark.parametrize(
    ("d", "options", "over"),
    [
        (1, {"flip": True}, PerturbationMean),
        (1, {"scales": 3}, lambda extract: PerturbationMean(extract, scale_changes(3, 8))),
        (1, {"whole_patches": True}, lambda extract: WideShiftMean(extract, whole_patch_shifts(8))),
        (
            0,
            {"whole_patches": True, "flip": True},
            lambda extract: WideShiftMean(PerturbationMean(extract), whole_patch_shifts(8)),
        ),
    ],
)
def test_other_views_are_averaged_beside_shifts(d, options, over, make_module, make_trainer):
    module = ready(make_module(layers=[-1, "-1:prefix"], srt=radius(d, **options)))
    reference = StochasticResonance(over(module.frozen.single), d, margin=d)
    pictures = module.normalization(images(2))[..., 1 - d : 34 - 1 + d, 1 - d : 50 - 1 + d]  # with a margin of d
    for given, wanted in zip(module.frozen.srt(pictures), reference(pictures), strict=True):
        torch.testing.assert_close(given, wanted)
    if d:
        trained = make_module(layers=[-1, "-1:prefix"], srt=radius(d, **options))
        make_trainer(max_epochs=1).fit(trained, loader(), loader(4, seed=1))


def test_l1_would_be_biased_and_is_refused_with_sampled_shifts(make_module):
    with pytest.raises(ValueError, match=r"SampledShifts\(4\) with loss 'l1'.*AllShifts"):
        make_module(loss="l1", target=SampledShifts(4))


def test_the_pull_towards_the_start_holds_weights_back(make_module, make_trainer):
    def distance(**settings):
        module = make_module(**settings)
        make_trainer(max_epochs=5).fit(module, loader())
        pairs = zip(module.student.parameters(), module.teacher.parameters())
        return sum((w - w0).square().sum().item() for w, w0 in pairs)

    assert distance(penalty=PenaltyOptions(weight=10.0)) < 0.5 * distance()


def test_the_authors_penalty_shrinks_the_weights(make_module, make_trainer):
    module = make_module(penalty=PenaltyOptions("weight_norm", 1.0))
    make_trainer(max_epochs=5).fit(module, loader())
    student, teacher = module.student.blocks[0].attn.qkv.weight, module.teacher.blocks[0].attn.qkv.weight
    assert student.norm() < teacher.norm()


def test_bf16_autocast_trains_on_fp32_targets_as_full_precision_does(make_module, make_trainer):
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        module = make_module(target=SampledShifts(4))
        trainer = make_trainer(max_epochs=3, precision=precision)
        trainer.fit(module, loader(), loader(4, seed=1))
        losses[precision] = trainer.callback_metrics["train/loss"].item()
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.02)
    assert losses["bf16-mixed"] != losses["32-true"], "it was no bfloat16"
    assert module.frozen.srt(module.normalization(images(1)))[0].dtype == torch.float32
    assert not module.teacher.training


def test_a_resumed_run_is_the_uninterrupted_run(make_module, make_trainer, tmp_path):
    def train(folder, max_epochs, ckpt_path=None):
        module = make_module(target=SampledShifts(3), seed=7, lr_scheduler=partial(StepLR, step_size=4))
        keep = ModelCheckpoint(dirpath=tmp_path / folder, filename="last")
        trainer = make_trainer(max_epochs=max_epochs, callbacks=[keep], enable_checkpointing=True)
        trainer.fit(module, loader(), loader(4, seed=1), ckpt_path=ckpt_path, weights_only=True)
        return module, tmp_path / folder / "last.ckpt"

    whole, _ = train("whole", 4)
    _, half = train("half", 2)
    resumed, _ = train("resumed", 4, ckpt_path=half)
    assert hash_weights(resumed.student) == hash_weights(whole.student)


def test_a_run_cannot_be_resumed_under_another_teacher(make_module, make_trainer, tiny_folder, tmp_path):
    module = make_module()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    other = make_module()
    trainer = make_trainer(max_epochs=2)
    ready(other)
    with torch.no_grad():
        other.teacher.norm.bias.add_(1)
    with pytest.raises(ValueError, match=r"was started from teacher .*resume with the original weights"):
        trainer.fit(other, loader(), ckpt_path=tmp_path / "run.ckpt", weights_only=True)


def test_a_checkpoint_carries_all_that_the_student_needs(make_module, make_trainer, tmp_path, tiny_folder):
    module = make_module(layers=[0, -1])
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, loader(), loader(4, seed=1))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    run = load_run(tmp_path / "run.ckpt")
    assert hash_weights(run.student) == hash_weights(module.student)
    assert hash_weights(run.teacher) == hash_weights(module.teacher)
    assert describe_backbone(run.student).mean == describe_backbone(module.student).mean
    assert run.scores["val/gap_closed"] == pytest.approx(trainer.callback_metrics["val/gap_closed"].item())
    assert run.step == 2

    settings = torch.load(tmp_path / "run.ckpt", weights_only=True)["hyper_parameters"]
    assert settings["srt"]["radius"] == 1 and settings["layers"] == [0, -1]
    assert settings["target"]["class_path"].endswith("AllShifts") and settings["readout"] == "none"


def test_ema_through_lightnings_own_callback(make_module, make_trainer, tmp_path):
    module = make_module()
    trainer = make_trainer(max_epochs=4, callbacks=[EMAWeightAveraging(decay=0.9)])
    trainer.fit(module, loader(), loader(4, seed=1))
    assert trainer.callback_metrics["val/gap_closed"] > 0
    assert hash_weights(module.teacher) != hash_weights(module.student)


@pytest.mark.slow  # the way of other trainers; `fit` itself: test_processes.py
def test_two_processes_train_as_one(make_module, make_trainer, tmp_path):
    keep = ModelCheckpoint(dirpath=tmp_path / "pair", filename="last")
    trainer = make_trainer(max_epochs=2, strategy="ddp_spawn", devices=2, callbacks=[keep], enable_checkpointing=True)
    trainer.fit(make_module(target=SampledShifts(2), layers=[0]), loader(16), loader(8, seed=1))
    assert trainer.callback_metrics["val/gap_closed"] > 0
    run = load_run(tmp_path / "pair" / "last.ckpt")
    assert hash_weights(run.student) != hash_weights(run.teacher)
    assert run.step == 4  # 16 images, two processes, batches of 4, twice over


def test_two_processes_measure_every_held_out_image_once(make_module, make_trainer, tmp_path):
    def score(num_processes):
        trainer = make_trainer(strategy="ddp_spawn" if num_processes > 1 else "auto", devices=num_processes)
        trainer.validate(make_module(layers=[0]), loader(5, batch_size=2, seed=1), verbose=False)
        return {name: value.item() for name, value in trainer.callback_metrics.items()}

    alone, together = score(1), score(2)
    assert alone["val/feature_variance_teacher"] > 0
    assert together == {name: pytest.approx(value, rel=1e-5, abs=1e-6) for name, value in alone.items()}


def test_radius_must_be_below_the_patch(make_module, make_trainer):
    with pytest.raises(ValueError, match=r"shift radius 8 is not smaller than the patch side 8.*use at most 7"):
        make_trainer(max_epochs=1).fit(make_module(srt=radius(8)), loader())


def test_a_layer_out_of_range_is_refused_before_training(make_module, make_trainer):
    with pytest.raises(ValueError, match="layer 2 is out of range"):
        make_trainer(max_epochs=1).fit(make_module(layers=[2]), loader())


@pytest.mark.parametrize("bands", [1, 4])
def test_images_of_other_channels_than_the_backbones_are_refused(tmp_path, make_trainer, bands):
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "in_chans": bands}
    model = build_backbone({"architecture": "vit_tiny_patch16_224", "model_args": size, "num_classes": 0})
    save_backbone(model, tmp_path / "bands")
    with pytest.raises(ValueError, match=rf"images have 3 channels, mean and std are of {bands}"):
        make_trainer(max_epochs=1).fit(distillation(tmp_path / "bands"), loader())


def test_layer_weights_must_match_layers(make_module):
    with pytest.raises(ValueError, match="1 layer_weights for 2 layers"):
        make_module(layers=[0, 1], layer_weights=[1.0])


def test_one_cycle_rises_then_falls():
    rates = [one_cycle(step, 100) for step in range(121)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[30] == 1
    assert rates[100] == rates[120] == pytest.approx(0, abs=1e-12)
    assert rates[:31] == sorted(rates[:31]) and rates[30:] == sorted(rates[30:], reverse=True)


def test_distances_are_what_their_names_say():
    a, b = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    assert feature_distance(a, b, "mse") == pytest.approx(((a - b) ** 2).mean().item(), rel=1e-6)
    norms = [(x - y).flatten().norm().item() for x, y in zip(a, b)]
    assert feature_distance(a, b, "l2") == pytest.approx(sum(norms) / 2, rel=1e-6)
    assert feature_distance(a, b, "l1") == pytest.approx((a - b).abs().mean().item(), rel=1e-6)
    assert feature_distance(a, 3 * a, "cosine") == pytest.approx(0, abs=1e-6)
    assert feature_distance(a, -a, "cosine") == pytest.approx(2, abs=1e-6)
    small = feature_distance(a, a + 0.5, "smooth_l1")
    assert small == pytest.approx(0.125, rel=1e-5)


def test_a_readout_stands_between_the_student_and_its_loss(make_module, make_trainer):
    module = ready(make_module(readout="bilinear"))
    pictures = module.normalization(images(2))[..., 1:-1, 1:-1]
    plain = ready(make_module()).student_features(pictures)[0]
    expected = InterpolatedFeatures(lambda _: (plain,), "bilinear")(pictures)[0]
    torch.testing.assert_close(module.student_features(pictures)[0], expected)
    trainer = make_trainer(max_epochs=8)
    trainer.validate(module, loader(4, seed=1), verbose=False)
    assert trainer.callback_metrics["val/gap_closed"] == 0, "an untouched student, read as it is judged, closed nothing"
    trainer.fit(module, loader(), loader(4, seed=1))
    assert trainer.callback_metrics["val/gap_closed"] > 0.02


def test_the_loss_may_see_a_part_of_the_readout(make_module):
    module = ready(make_module(readout="bilinear", readout_strength=0.5))
    pictures = module.normalization(images(2))[..., 1:-1, 1:-1]
    plain = ready(make_module()).student_features(pictures)[0]
    expected = InterpolatedFeatures(lambda _: (plain,), "bilinear", 0.5)(pictures)[0]
    torch.testing.assert_close(module.student_features(pictures)[0], expected)
    torch.testing.assert_close(module.frozen.single(pictures)[0], expected)
    assert module.hparams["readout"] == "bilinear", "judged through all of it"


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_a_strength_that_is_no_part_is_refused(make_module, strength):
    with pytest.raises(ValueError, match=rf"readout_strength {strength} is not between 0 .* and 1"):
        make_module(readout="bilinear", readout_strength=strength)


def test_the_gap_is_of_dense_layers_alone(make_module, make_trainer):
    module, trainer = make_module(layers=["-1:prefix", 0, -1]), make_trainer(max_epochs=2)
    trainer.fit(module, loader(), loader(4, seed=1))
    scores = {name: value.item() for name, value in trainer.callback_metrics.items()}
    dense = [scores["val/gap_closed_layer_0"], scores["val/gap_closed_layer_-1"]]
    assert scores["val/gap_closed"] == pytest.approx(sum(dense) / 2)
