"""Folders that plain timm loads, configurations that rebuild, and which parameters train."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from torch import nn

from srt_distill.backbone import (
    FeatureExtractor,
    backbone_config,
    build_backbone,
    describe_backbone,
    hash_weights,
    load_backbone,
    save_backbone,
    select_trainable,
)

CONFIG = {
    "architecture": "deit_tiny_patch16_224",
    "model_args": {"embed_dim": 24, "depth": 4, "num_heads": 2, "img_size": 64},
    "num_classes": 3,
}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(CONFIG)


def test_folder_loads_in_plain_timm(model: nn.Module, tmp_path: Path):
    model.pretrained_cfg["mean"] = (0.1, 0.2, 0.3)
    save_backbone(model, tmp_path / "out")
    program = (
        "import sys, timm, torch; m = timm.create_model(sys.argv[1], pretrained=True).eval(); "
        "x = torch.linspace(-1, 1, 3*64*96).reshape(1, 3, 64, 96); "
        "torch.save((m(x), m.pretrained_cfg['mean']), sys.argv[2]); "
        "sys.exit('srt_distill' in sys.modules)"
    )
    folder, result = f"local-dir:{tmp_path / 'out'}", str(tmp_path / "result.pt")
    subprocess.run([sys.executable, "-I", "-c", program, folder, result], check=True)
    logits, mean = torch.load(result, weights_only=True)
    assert torch.equal(logits, model(torch.linspace(-1, 1, 3 * 64 * 96).reshape(1, 3, 64, 96)))
    assert tuple(mean) == (0.1, 0.2, 0.3)


def test_saved_config_is_fit_for_transformers_and_names_no_machine(model: nn.Module, tmp_path: Path):
    save_backbone(model, tmp_path / "out")
    again = load_backbone(f"local-dir:{tmp_path / 'out'}")
    save_backbone(again, tmp_path / "again")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert "num_classes" not in config["model_args"]
    assert config["model_args"]["dynamic_img_size"] is True
    assert config["num_classes"] == 3
    assert str(tmp_path) not in json.dumps(config)
    assert {file.name for file in (tmp_path / "again").iterdir()} == {"config.json", "model.safetensors"}
    assert hash_weights(again) == hash_weights(model)


@pytest.mark.parametrize("position_embedding", ["timm", "dino"])
def test_config_rebuilds_the_same_network(position_embedding: str):
    model = build_backbone({**CONFIG, "position_embedding": position_embedding})
    config = backbone_config(model)
    assert yaml.safe_load(yaml.safe_dump(config)) == config
    again = build_backbone(json.loads(json.dumps(config)))
    again.load_state_dict(model.state_dict())
    assert type(again) is type(model)
    assert describe_backbone(again) == describe_backbone(model)
    assert backbone_config(again) == config
    images = torch.randn(1, 3, 32, 80)
    assert torch.equal(FeatureExtractor(again)(images)[0], FeatureExtractor(model)(images)[0])


def test_config_of_a_loaded_folder_rebuilds_without_it(model: nn.Module, tmp_path: Path):
    save_backbone(model, tmp_path / "out")
    loaded = load_backbone(f"local-dir:{tmp_path / 'out'}")
    config = backbone_config(copy.deepcopy(loaded))
    assert str(tmp_path) not in json.dumps(config)
    build_backbone(config).load_state_dict(model.state_dict())


def test_config_of_a_model_that_timm_made():
    model = timm.create_model("deit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=2, num_classes=0)
    build_backbone(backbone_config(model)).load_state_dict(model.state_dict())


def test_config_with_a_typo():
    with pytest.raises(ValueError, match=r"needs 'architecture' and may have.*got architecture, model_arg"):
        build_backbone({"architecture": "deit_tiny_patch16_224", "model_arg": {}})


def test_trainable_parts(model: nn.Module):
    every = select_trainable(model, "all")
    assert set(dict(model.named_parameters())) - set(every) == {"head.weight", "head.bias"}
    last = select_trainable(model, "last_n", last_n=2)
    assert {name.split(".")[0] for name in last} == {"blocks", "norm"}
    assert {name.split(".")[1] for name in last if name.startswith("blocks")} == {"2", "3"}
    assert set(select_trainable(model, "norm")) == {
        *(f"blocks.{i}.norm{j}.{kind}" for i in range(4) for j in (1, 2) for kind in ("weight", "bias")),
        "norm.weight",
        "norm.bias",
    }
    biases = select_trainable(model, "bias")
    assert "patch_embed.proj.bias" in biases
    assert "head.bias" not in biases
    assert all(name.endswith("bias") for name in biases)
    for last_n in (0, 5):
        with pytest.raises(ValueError, match=rf"last_n={last_n} is out of range; this backbone has 4 layers"):
            select_trainable(model, "last_n", last_n=last_n)


def test_what_trains_is_what_the_features_depend_on(model: nn.Module):
    FeatureExtractor(model)(torch.randn(1, 3, 32, 32))[0].square().sum().backward()
    reached = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert reached == select_trainable(model, "all")


def test_no_parameters_of_a_part():
    normless = nn.Linear(2, 2)
    vars(normless)["pretrained_cfg"] = {}
    with pytest.raises(ValueError, match="no parameters of part 'norm'"):
        select_trainable(normless, "norm")


def test_hash_sees_values_shapes_dtypes_and_names(model: nn.Module):
    base = hash_weights(model)
    assert base == hash_weights(copy.deepcopy(model))
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.get_parameter("pos_embed")[0, 0, 0] += 1e-6
    assert hash_weights(changed) != base
    assert hash_weights(copy.deepcopy(model).double()) != base
    one = nn.ParameterDict({"a": nn.Parameter(torch.zeros(2, 3))})
    other = nn.ParameterDict({"a": nn.Parameter(torch.zeros(3, 2))})
    third = nn.ParameterDict({"b": nn.Parameter(torch.zeros(2, 3))})
    assert len({hash_weights(one), hash_weights(other), hash_weights(third)}) == 3
    assert hash_weights(copy.deepcopy(model).bfloat16()) != base


def test_exported_weights_are_as_readable_as_any_other_file(tmp_path):
    save_backbone(
        build_backbone({"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 1}}), tmp_path / "out"
    )
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
