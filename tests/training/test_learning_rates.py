"""Learning rates by depth and by the size of weights: against their formulas, and the same after resuming."""

import statistics

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.optim.lr_scheduler import ConstantLR

from srt_distill.backbone import group_by_rate, hash_weights, load_backbone, measure_weights
from srt_distill.training.settings import TrainableOptions
from tests.training.distilling import loader, ready


@pytest.fixture
def rates(make_module):
    def rates(change=lambda weights: None, **settings):
        """Learning rates by name, of a model whose weights were changed in place beforehand."""
        module = make_module(lr_scheduler=ConstantLR, **settings)
        with torch.no_grad():
            change(dict(module._load().named_parameters()))
        module.configure_model()
        optimizer = module.configure_optimizers()["optimizer"]
        by_weight = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
        return {n: by_weight[id(p)] for n, p in module.student.named_parameters() if p.requires_grad}

    return rates


def test_layer_decay_slows_early_layers(rates):
    plain, decayed = rates(), rates(layer_decay=0.5)
    assert plain.keys() == decayed.keys() and set(plain.values()) == {3e-3}
    assert decayed["norm.weight"] == pytest.approx(3e-3)
    first, second = (decayed[f"blocks.{i}.attn.qkv.weight"] for i in (0, 1))
    assert second <= 3e-3 and first == pytest.approx(second / 2) and decayed["cls_token"] == pytest.approx(first / 2)
    assert decayed["blocks.0.norm1.bias"] == first
    with pytest.raises(ValueError, match=r"layer_decay 1\.5 must be above 0 and at most 1"):
        rates(layer_decay=1.5)


def test_small_weights_move_slower_in_proportion_and_large_ones_no_faster(rates, make_module):
    def make(small=0.01, large=1.0):
        def change(weights):
            for weight in weights.values():
                if weight.ndim > 1:
                    weight.fill_(small)
            weights["blocks.0.attn.qkv.weight"].fill_(-large)
            weights["blocks.1.attn.proj.weight"].zero_()

        return change

    matrices = {name: 0.01 for name in measure_weights(ready(make_module()).student)}
    usual = statistics.fmean((matrices | {"blocks.0.attn.qkv.weight": 0.03, "blocks.1.attn.proj.weight": 0.0}).values())
    found = rates(make(large=0.03), relative_rates=True)
    assert found["blocks.0.attn.qkv.weight"] == pytest.approx(3e-3 * 0.03 / 0.04)
    assert found["blocks.1.mlp.fc1.weight"] == pytest.approx(3e-3 * 0.01 / 0.04)
    stem = ("pos_embed", "cls_token", "patch_embed.proj.weight")
    for without_size in (*stem, "blocks.0.norm1.weight", "blocks.0.attn.qkv.bias", "blocks.1.attn.proj.weight"):
        assert found[without_size] == pytest.approx(3e-3 * usual / 0.04)

    large = rates(make(small=0.06, large=1.0), relative_rates=True)
    assert large == rates(make(small=0.06, large=1.0)) and set(large.values()) == {3e-3}
    both = rates(make(large=0.03), relative_rates=True, layer_decay=0.5)
    decayed = rates(make(large=0.03), layer_decay=0.5)
    assert both == {name: pytest.approx(rate * decayed[name] / 3e-3) for name, rate in found.items()}


def test_deit_tiny_which_rates_were_tried_on_moves_at_the_rate_itself(shared_data):
    weights = shared_data / "weights" / "deit_tiny_patch16_224.safetensors"
    model = load_backbone("deit_tiny_patch16_224", weights=weights)
    plain, relative = group_by_rate(model, None, None), group_by_rate(model, None, measure_weights(model))
    assert [group["lr_scale"] for group in relative] == [1.0]
    assert [id(p) for group in relative for p in group["params"]] == [id(p) for group in plain for p in group["params"]]


def test_adapters_have_no_size_of_their_own_and_take_the_mean_of_all(rates):
    pytest.importorskip("peft")

    def fill(weights):
        for weight in weights.values():
            weight.fill_(0.02)

    found = rates(fill, relative_rates=True, trainable=TrainableOptions("lora"))
    assert found and all(".lora_" in name for name in found)
    assert all(rate == pytest.approx(3e-3 * 0.02 / 0.04) for rate in found.values())


def test_a_resumed_run_has_the_rates_that_it_began_with(make_module, make_trainer, tmp_path):
    def train(folder, max_epochs, resume=None):
        module = make_module(relative_rates=True, lr_scheduler=ConstantLR)
        with torch.no_grad():  # the tiny model's weights are large
            for weight in module._load().parameters():
                weight.mul_(0.1)
        keep = ModelCheckpoint(dirpath=tmp_path / folder, filename="last")
        trainer = make_trainer(max_epochs=max_epochs, callbacks=[keep], enable_checkpointing=True)
        trainer.fit(module, loader(), loader(4, seed=1), ckpt_path=resume, weights_only=True)
        groups = trainer.optimizers[0].param_groups
        assert trainer.callback_metrics["train/learning_rate"].item() == pytest.approx(max(g["lr"] for g in groups))
        return module.student, [(g["initial_lr"], g["lr"], len(g["params"])) for g in groups]

    whole, rates = train("whole", 2)
    train("half", 1)
    resumed, rates_then = train("resumed", 2, tmp_path / "half" / "last.ckpt")
    assert rates_then == rates and len(rates) > 2
    assert hash_weights(resumed) == hash_weights(whole)
