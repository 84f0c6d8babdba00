"""Feature maps of layers, and DINO's position embeddings."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from srt_distill.backbone import (
    FeatureExtractor,
    backbone_normalization,
    blank_image,
    build_backbone,
    describe_backbone,
    load_backbone,
)
from srt_distill.images import Normalization

CONFIG = {
    "architecture": "vit_tiny_patch16_224",
    "model_args": {"embed_dim": 24, "depth": 4, "num_heads": 2, "img_size": 64},
    "num_classes": 3,
}


def small(**changes) -> nn.Module:
    torch.manual_seed(0)
    model = build_backbone({**CONFIG, **changes})
    with torch.no_grad():
        model.get_parameter("pos_embed").normal_()
    return model


@pytest.fixture
def model() -> nn.Module:
    return small()


@pytest.mark.parametrize("size", [(64, 64), (32, 80), (480, 832)])
def test_last_layer_equals_the_final_patch_tokens(model: nn.Module, size: tuple[int, int]):
    images = torch.randn(1, 3, *size)
    (features,) = FeatureExtractor(model)(images)
    rows, columns = size[0] // 16, size[1] // 16
    expected = model.forward_features(images)[:, 1:].transpose(1, 2).reshape(1, 24, rows, columns)
    assert torch.equal(features, expected)


def test_layers_in_the_order_given(model: nn.Module):
    images = torch.randn(2, 3, 32, 48)
    maps = FeatureExtractor(model, (2, -1, 0, 2, -4))(images)
    alone = [FeatureExtractor(model, (layer,))(images)[0] for layer in (2, 3, 0, 2, 0)]
    assert len(maps) == 5
    assert all(torch.equal(mine, other) for mine, other in zip(maps, alone))
    assert not torch.equal(maps[0], maps[1])


def test_without_norm_maps_are_the_raw_block_outputs(model: nn.Module):
    seen = []
    model.get_submodule("blocks.1").register_forward_hook(lambda module, inputs, output: seen.append(output))
    (features,) = FeatureExtractor(model, (1,), norm=False)(torch.randn(1, 3, 32, 48))
    assert torch.equal(features.flatten(2).transpose(1, 2), seen[0][:, 1:])


def test_blocks_behind_the_deepest_layer_do_not_run(model: nn.Module):
    ran = []
    for index in range(4):
        model.get_submodule(f"blocks.{index}").register_forward_hook(lambda *_, index=index: ran.append(index))
    FeatureExtractor(model, (1, 0))(torch.randn(1, 3, 32, 32))
    assert ran == [0, 1]


def test_gradients_flow(model: nn.Module):
    FeatureExtractor(model)(torch.randn(1, 3, 32, 48))[0].sum().backward()
    assert model.get_parameter("pos_embed").grad is not None
    assert model.get_parameter("head.weight").grad is None


def test_extractor_registers_nothing_in_a_module(model: nn.Module):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.student = model
            self.extract = FeatureExtractor(model)

    assert all(key.startswith("student.") for key in Holder().state_dict())
    with pytest.raises(dataclasses.FrozenInstanceError):
        FeatureExtractor(model).norm = False


@pytest.mark.parametrize("layers", [(4,), (-5,), (0, 9)])
def test_layer_out_of_range(model: nn.Module, layers: tuple[int, ...]):
    with pytest.raises(ValueError, match=rf"layer {layers[-1]} is out of range; this backbone has layers 0 to 3"):
        FeatureExtractor(model, layers)


def test_no_layers(model: nn.Module):
    with pytest.raises(ValueError, match="at least one"):
        FeatureExtractor(model, ())


def test_side_off_the_patch(model: nn.Module):
    with pytest.raises(ValueError, match="image height 479 is not a multiple of patch side 16; resize or crop first"):
        FeatureExtractor(model)(torch.zeros(1, 3, 479, 832))
    with pytest.raises(ValueError, match="image width 830 is not a multiple"):
        FeatureExtractor(model)(torch.zeros(1, 3, 480, 830))


def test_fixed_size_model_names_its_size():
    model = small(model_args={**CONFIG["model_args"], "dynamic_img_size": False})
    assert describe_backbone(model).fixed_size == (64, 64)
    FeatureExtractor(model)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="only takes 64x64"):
        FeatureExtractor(model)(torch.zeros(1, 3, 64, 80))


def dino_table(table: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Literal twin: bicubic (a = -0.75) sampled by hand at DINO's scale, borders clamped; table (n, n, C)."""

    def weights(t: float) -> list[float]:
        def kernel(x: float, a: float = -0.75) -> float:
            x = abs(x)
            if x <= 1:
                return (a + 2) * x**3 - (a + 3) * x**2 + 1
            return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a

        return [kernel(t + 1), kernel(t), kernel(1 - t), kernel(2 - t)]

    side = table.shape[0]
    out = torch.zeros(rows, columns, table.shape[2], dtype=table.dtype)
    for r in range(rows):
        for c in range(columns):
            y = (r + 0.5) * side / (rows + 0.1) - 0.5
            x = (c + 0.5) * side / (columns + 0.1) - 0.5
            top, left = math.floor(y), math.floor(x)
            for i, wy in enumerate(weights(y - top)):
                for j, wx in enumerate(weights(x - left)):
                    row, column = min(max(top - 1 + i, 0), side - 1), min(max(left - 1 + j, 0), side - 1)
                    out[r, c] += wy * wx * table[row, column]
    return out


@pytest.mark.parametrize("grid", [(6, 9), (3, 4), (2, 2)])
def test_dino_positions_against_a_literal_twin(grid: tuple[int, int]):
    model = small(position_embedding="dino")
    table = model.get_parameter("pos_embed")
    tokens = torch.zeros(1, *grid, 24)
    (got,) = model._pos_embed(tokens)
    expected = dino_table(table[0, 1:].detach().reshape(4, 4, 24), *grid)
    torch.testing.assert_close(got[1:].reshape(*grid, 24), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(got[0], table[0, 0] + model.get_parameter("cls_token")[0, 0])


def test_dino_positions_only_change_other_grids():
    plain, dino = small(), small(position_embedding="dino")
    assert plain.state_dict().keys() == dino.state_dict().keys()
    native, wide = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 96)
    assert torch.equal(FeatureExtractor(plain)(native)[0], FeatureExtractor(dino)(native)[0])
    assert not torch.allclose(FeatureExtractor(plain)(wide)[0], FeatureExtractor(dino)(wide)[0], atol=1e-3)


def test_dino_positions_survive_a_copy_that_trains():
    model = small(position_embedding="dino")
    student = copy.deepcopy(model)
    images = torch.randn(1, 3, 64, 96)
    before = FeatureExtractor(model)(images)[0]
    FeatureExtractor(student)(images)[0].sum().backward()
    assert student.get_parameter("pos_embed").grad.abs().sum() > 0
    assert model.get_parameter("pos_embed").grad is None
    with torch.no_grad():
        student.get_parameter("pos_embed").add_(1.0)
    assert torch.equal(FeatureExtractor(model)(images)[0], before)
    assert not torch.equal(FeatureExtractor(student)(images)[0], before)


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "test_resnet"])
def test_dino_positions_refused_where_they_make_no_sense(name: str):
    with pytest.raises(ValueError, match="position_embedding='dino' does not fit"):
        load_backbone(name, pretrained=False, position_embedding="dino")


def test_dino_positions_without_class_position():
    args = {**CONFIG["model_args"], "no_embed_class": True, "reg_tokens": 2}
    plain, dino = small(model_args=args), small(model_args=args, position_embedding="dino")
    native = torch.randn(1, 3, 64, 64)
    assert torch.equal(FeatureExtractor(plain)(native)[0], FeatureExtractor(dino)(native)[0])
    assert FeatureExtractor(dino)(torch.randn(1, 3, 32, 96))[0].shape == (1, 24, 2, 6)


def test_real_deit_at_480p(shared_data: Path):
    file = shared_data / "weights" / "deit_tiny_patch16_224.safetensors"
    images = torch.randn(1, 3, 480, 832, generator=torch.Generator().manual_seed(0))
    maps = []
    for position_embedding in ("timm", "dino"):
        model = load_backbone("deit_tiny_patch16_224", weights=file, position_embedding=position_embedding)
        with torch.no_grad():
            maps.append(FeatureExtractor(model)(images)[0])
    assert maps[0].shape == (1, 192, 30, 52)
    assert 0.001 < (maps[0] - maps[1]).norm() / maps[1].norm() < 0.1


def with_bands(bands: int, **described) -> nn.Module:
    args = {**CONFIG["model_args"], "in_chans": bands}
    return small(model_args=args, pretrained_cfg={"architecture": CONFIG["architecture"], **described})


def test_normalization_is_the_models_own():
    assert backbone_normalization(small()) == Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    grey = with_bands(1, mean=(0.4,), std=(0.2,))
    assert backbone_normalization(grey) == Normalization((0.4,), (0.2,))
    four = with_bands(4, mean=(0.1, 0.2, 0.3, 0.4), std=(0.5,))
    assert backbone_normalization(four) == Normalization((0.1, 0.2, 0.3, 0.4), (0.5,) * 4)
    with pytest.raises(ValueError, match=r"4 channels.* mean for 3.*config\.json"):
        backbone_normalization(with_bands(4, mean=(0.5,) * 3, std=(0.5,) * 3))


@pytest.mark.parametrize("bands", [1, 4])
def test_images_with_other_channels_are_refused(bands: int):
    model = with_bands(bands, mean=(0.5,), std=(0.5,))
    (features,) = FeatureExtractor(model)(torch.randn(1, bands, 32, 32))
    assert features.shape == (1, 24, 2, 2)
    assert blank_image(model).shape[1] == bands
    with pytest.raises(ValueError, match=rf"takes images of {bands} channels, these have 3"):
        FeatureExtractor(model)(torch.randn(1, 3, 32, 32))
