"""Low-rank adapters: alone in moving, merged on loading, resumed, refused with the reason."""

import sys
from functools import partial

import pytest
import timm
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from srt_distill.backbone import (
    FeatureExtractor,
    add_adapters,
    build_backbone,
    hash_weights,
    paired_weights,
    plain_state,
)
from srt_distill.cli import main
from srt_distill.runs import load_run
from srt_distill.training.settings import PenaltyOptions, TrainableOptions
from tests.training.distilling import distillation, images, loader


@pytest.fixture
def lora(tiny_folder):
    return partial(distillation, tiny_folder, trainable=TrainableOptions("lora", lora_rank=4))


@pytest.fixture
def trained(lora, make_trainer, tmp_path):
    module, trainer = lora(), make_trainer(max_epochs=8)
    trainer.fit(module, loader(), loader(4, seed=1))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    return module, trainer, tmp_path / "run.ckpt"


def test_only_the_adapters_move(trained):
    module, trainer, _ = trained
    assert trainer.callback_metrics["val/gap_closed"] > 0.02
    teacher = dict(module.teacher.named_parameters())
    student = dict(module.student.named_parameters())
    adapters = [name for name in student if ".lora_" in name]
    assert len(adapters) == 2 * 4 * 2  # two matrices on qkv, proj, fc1 and fc2 of two blocks
    assert all(student[name].abs().sum() > 0 for name in adapters)  # every B has left zero
    for name, weight in student.items():
        if name not in adapters:
            assert torch.equal(weight, teacher[name.replace(".base_layer.", ".")]), name
            assert not weight.requires_grad, name


def test_a_loaded_run_is_a_plain_model_with_the_adapters_features(trained, tmp_path):
    module, _, checkpoint = trained
    run = load_run(checkpoint)
    assert run.student.state_dict().keys() == run.teacher.state_dict().keys() == module.teacher.state_dict().keys()
    pictures = module.normalization(images(2))[..., 1:-1, 1:-1]
    with torch.no_grad():
        merged, adapted = FeatureExtractor(run.student, (0, -1))(pictures), module.student_features(pictures)
        original = module.frozen.single(pictures)
    torch.testing.assert_close(merged[-1], adapted[-1], rtol=1e-4, atol=1e-4)
    assert (merged[-1] - original[-1]).abs().max() > 1e-2
    assert main(["export", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "export")]) == 0
    exported = timm.create_model(f"local-dir:{tmp_path / 'export'}", pretrained=True)
    assert hash_weights(exported) == hash_weights(run.student)


def test_a_resumed_run_is_the_uninterrupted_run(lora, make_trainer, tmp_path):
    def train(folder, max_epochs, ckpt_path=None):
        module = lora(lr_scheduler=lambda o: torch.optim.lr_scheduler.ConstantLR(o))
        keep = ModelCheckpoint(dirpath=tmp_path / folder, filename="last")
        trainer = make_trainer(max_epochs=max_epochs, callbacks=[keep], enable_checkpointing=True)
        trainer.fit(module, loader(), ckpt_path=ckpt_path, weights_only=True)
        return load_run(tmp_path / folder / "last.ckpt").student

    whole = train("whole", 4)
    train("half", 2)
    resumed = train("resumed", 4, ckpt_path=tmp_path / "half" / "last.ckpt")
    assert hash_weights(resumed) == hash_weights(whole)


def test_the_pull_towards_the_start_holds_the_merged_weights_back(lora, make_trainer):
    def distance(**settings):
        module = lora(**settings)
        make_trainer(max_epochs=5).fit(module, loader())
        return sum((w - w0).square().sum().item() for w, w0 in paired_weights(module.student, module.teacher))

    assert 0 < distance(penalty=PenaltyOptions(weight=10.0)) < 0.5 * distance()


def test_an_adapted_layer_is_the_sum_that_its_plain_weight_says():
    model = build_backbone({"architecture": "test_vit", "num_classes": 3})
    before = plain_state(model)
    add_adapters(model, 3, 6, seed=1)
    assert all(torch.equal(value, before[key]) for key, value in plain_state(model).items())
    layer = model.blocks[0].attn.qkv
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        b.normal_(generator=torch.Generator().manual_seed(0))
    expected = before["blocks.0.attn.qkv.weight"] + 6 / 3 * b @ a
    torch.testing.assert_close(plain_state(model)["blocks.0.attn.qkv.weight"], expected)
    assert not hasattr(model.head, "base_layer")


def test_adapters_are_drawn_from_their_seed():
    def drawn(seed):
        model = build_backbone({"architecture": "test_vit"})
        add_adapters(model, 2, 4, seed)
        return model.blocks[0].mlp.fc1.lora_A["default"].weight

    torch.manual_seed(1)
    first = drawn(0)
    assert torch.equal(first, drawn(0)) and not torch.equal(first, drawn(1))


def test_without_peft_the_extra_is_named(lora, make_trainer, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"trainable 'lora' needs peft.*srt-distill\[lora\]"):
        make_trainer(max_epochs=1).fit(lora(), loader())


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(ValueError, match="lora_rank 0 is not a positive number"):
        add_adapters(build_backbone({"architecture": "test_vit"}), 0, 1)
    with pytest.raises(ValueError, match="has no linear layers to adapt"):
        add_adapters(build_backbone({"architecture": "test_resnet", "num_classes": 3}), 4, 1)
