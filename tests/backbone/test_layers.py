"""Layer specs, and the facets they name."""

import pytest
import torch
from torch import nn

from srt_distill.backbone import FeatureExtractor, build_backbone, describe_backbone
from srt_distill.backbone.layers import LayerSpec, parse_layer
from tests.backbone.small import FAMILIES, build_small


@pytest.mark.parametrize(
    ("spec", "layer", "facet"),
    [(-1, -1, "token"), ("8", 8, "token"), ("8:key", 8, "key"), ("-2:prefix", -2, "prefix"), ("0:token", 0, "token")],
)
def test_specs(spec: int | str, layer: int, facet):
    assert parse_layer(spec) == LayerSpec(layer, facet)


@pytest.mark.parametrize("spec", ["key", "8:kay", ":key", "1.5", "8:key:3", ""])
def test_specs_that_mean_nothing(spec: str):
    with pytest.raises(ValueError, match=r"is not understood; write a block number.*8:key"):
        parse_layer(spec)


def literal_projections(model: nn.Module, images: torch.Tensor, layer: int) -> tuple[torch.Tensor, ...]:
    """Literal twin: walk the blocks by hand and multiply out the layer's query, key and value matrices."""
    tokens = model._pos_embed(model.patch_embed(images))
    for block in model.blocks[:layer]:
        tokens = block(tokens)
    block = model.blocks[layer]
    normed = block.norm1(tokens)
    width = normed.shape[-1]
    weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
    rows, columns = images.shape[-2] // 16, images.shape[-1] // 16
    found = []
    for part in range(3):
        rows_of = slice(part * width, (part + 1) * width)
        patches = (normed @ weight[rows_of].T + bias[rows_of])[:, model.num_prefix_tokens :]
        found.append(patches.reshape(len(images), rows, columns, width).permute(0, 3, 1, 2))
    return tuple(found)


@pytest.fixture
def model() -> nn.Module:
    return build_small("vit_small_patch16_224", reg_tokens=2)


def test_queries_keys_values_against_a_literal_twin(model: nn.Module):
    images = torch.randn(2, 3, 32, 48)
    got = FeatureExtractor(model, ("1:query", "1:key", "1:value"))(images)
    for mine, expected in zip(got, literal_projections(model, images, 1)):
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_facets_do_not_disturb_the_tokens(model: nn.Module):
    images = torch.randn(1, 3, 32, 48)
    alone = FeatureExtractor(model, (-1, 0))(images)
    tokens, _, first, _ = FeatureExtractor(model, (-1, "-1:key", 0, "0:prefix"))(images)
    assert torch.equal(tokens, alone[0])
    assert torch.equal(first, alone[1])
    assert not any(block.attn._forward_pre_hooks for block in model.blocks)


def test_prefix_tokens_are_one_token_for_the_whole_image(model: nn.Module):
    images = torch.randn(2, 3, 32, 48)
    prefix, again = FeatureExtractor(model, ("-1:prefix", "0:prefix"))(images)
    assert prefix.shape == again.shape == (2, 3 * 24, 1, 1)
    assert torch.equal(prefix.reshape(2, 3, 24), model.forward_features(images)[:, :3])


def test_gradients_flow_through_facets(model: nn.Module):
    FeatureExtractor(model, ("1:key",))(torch.randn(1, 3, 32, 32))[0].sum().backward()
    gradient = model.get_parameter("blocks.1.attn.qkv.weight").grad
    assert gradient[24:48].abs().sum() > 0
    assert gradient[:24].abs().sum() == gradient[48:].abs().sum() == 0
    assert model.get_parameter("blocks.2.norm1.weight").grad is None


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "eva02_tiny_patch14_224", "vit_small_patch16_dinov3_qkvb"])
def test_biases_kept_outside_the_layer_are_added(name: str):
    model = build_small(name)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("_bias"):
                parameter.normal_()
    info = describe_backbone(model)
    size = info.fixed_size or (2 * info.patch_size, 3 * info.patch_size)
    images = torch.randn(1, 3, *size)
    seen = {}
    attention = model.blocks[1].attn
    names = "value" if getattr(attention, "v_bias", None) is not None else "query"
    attention.register_forward_pre_hook(lambda _, inputs: seen.update(tokens=inputs[0]))
    (got,) = FeatureExtractor(model, (f"1:{names}",))(images)
    tokens = seen["tokens"][:, info.num_prefix_tokens :]
    if names == "value":
        expected = tokens @ attention.qkv.weight.chunk(3)[2].T + attention.v_bias
    else:
        expected = tokens @ attention.qkv.weight.chunk(3)[0].T + attention.qkv.bias.chunk(3)[0]
    torch.testing.assert_close(got.flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_resnet", "vit_small_patch16_18x2_224"])
def test_facets_are_refused_where_there_are_none(name: str):
    model = build_small(name)
    with pytest.raises(ValueError, match=r"no queries, keys and values to read at layer 1"):
        FeatureExtractor(model, ("1:key",))


def test_prefix_is_refused_without_class_token():
    with pytest.raises(ValueError, match="has no class or register tokens"):
        FeatureExtractor(build_small("swin_tiny_patch4_window7_224"), ("-1:prefix",))


def test_windowed_attention_has_no_map_of_keys():
    model = build_small("samvit_base_patch16_224")
    images = torch.randn(1, 3, 64, 96)
    assert FeatureExtractor(model, ("2:key",))(images)[0].shape == (1, 24, 4, 6)
    with pytest.raises(ValueError, match=r"sees windows .* no map of each key"):
        FeatureExtractor(model, ("0:key",))(images)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_maps_of_its_declared_shape(name: str):
    model = build_small(name)
    info = describe_backbone(model)
    size = info.fixed_size or (2 * info.patch_size, 3 * info.patch_size)
    images = torch.randn(2, 3, *size)
    layers = tuple(range(info.num_layers))
    with torch.no_grad():
        maps = FeatureExtractor(model, layers)(images)
        (last,) = FeatureExtractor(model)(images)
    shapes = [(2, c, size[0] // s, size[1] // s) for c, s in zip(info.channels, info.strides)]
    assert [tuple(features.shape) for features in maps] == shapes
    assert torch.equal(last, maps[-1])
    assert all(features.isfinite().all() for features in maps)


@pytest.mark.parametrize(
    ("name", "layers", "fault"),
    [
        ("pit_ti_224", (0,), "layer 0 of pit_ti_224 gives 27x27 tokens, which do not tile the image in cells of 8"),
        ("levit_128s", (-1,), "levit_128s only takes 224x224, which cells of 64 pixels do not tile"),
    ],
)
def test_maps_that_do_not_tile_the_image_are_refused(name: str, layers: tuple[int, ...], fault: str):
    model = build_backbone({"architecture": name, "num_classes": 0})
    with pytest.raises(ValueError, match=f"{fault}.*choose an"), torch.no_grad():
        FeatureExtractor(model, layers)(torch.zeros(1, 3, 224, 224))


def test_a_model_of_fixed_size_is_of_the_size_it_was_built_with():
    assert describe_backbone(build_small("hiera_tiny_224", img_size=64)).fixed_size == (64, 64)
    assert describe_backbone(build_small("hiera_tiny_224", img_size=(64, 96))).fixed_size == (64, 96)
    assert describe_backbone(build_small("hiera_tiny_224")).fixed_size == (224, 224)


@pytest.mark.parametrize(
    ("name", "normed_layers"),
    [
        ("vit_small_patch14_reg4_dinov2", {0, 1, 2}),
        ("beit_base_patch16_224", set()),  # pools first, norms then
        ("swin_tiny_patch4_window7_224", {3}),
        ("hiera_tiny_224", set()),  # timm has the norm in the head
        ("pvt_v2_b0", set()),
        ("test_convnext", set()),
        ("test_resnet", set()),
    ],
)
def test_the_final_norm_is_applied_where_a_network_has_one(name: str, normed_layers: set[int]):
    model = build_small(name)
    info = describe_backbone(model)
    layers = tuple(range(info.num_layers))
    images = torch.randn(1, 3, *(info.fixed_size or (2 * info.patch_size,) * 2))
    with torch.no_grad():
        normed, raw = (FeatureExtractor(model, layers, norm=norm)(images) for norm in (True, False))
    assert {i for i in layers if not torch.equal(normed[i], raw[i])} == normed_layers


def test_the_neck_of_sam_is_its_norm():
    args = {"embed_dim": 24, "depth": 2, "num_heads": 2, "global_attn_indexes": (1,)}
    model = build_backbone({"architecture": "samvit_base_patch16", "model_args": args, "num_classes": 0})
    assert describe_backbone(model).channels == (256, 256)
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(FeatureExtractor(model)(images)[0], model.forward_features(images))
        assert FeatureExtractor(model, (0,), norm=False)(images)[0].shape == (1, 24, 2, 3)


def test_fewer_heads_of_keys_than_of_queries():
    args = {"embed_dim": 48, "depth": 2, "num_heads": 4, "num_kv_heads": 2}
    model = build_backbone({"architecture": "vit_base_patch16_sapiens2", "model_args": args, "num_classes": 0})
    maps = FeatureExtractor(model, ("1:query", "1:key", "1:value"))(torch.randn(1, 3, 32, 48))
    assert [tuple(m.shape) for m in maps] == [(1, 48, 2, 3), (1, 24, 2, 3), (1, 24, 2, 3)]


def test_registers_are_prefix_tokens_and_no_patches():
    model = build_small("vit_small_patch14_reg4_dinov2")
    images = torch.randn(1, 3, 28, 42)
    prefix, key = FeatureExtractor(model, ("-1:prefix", "-1:key"))(images)
    assert prefix.shape == (1, 5 * 24, 1, 1)
    assert key.shape == (1, 24, 2, 3)
    with torch.no_grad():
        model.get_parameter("reg_token").add_(1.0)
    assert not torch.equal(FeatureExtractor(model, ("-1:prefix",))(images)[0], prefix)


def test_nonsquare_patches_are_refused():
    config = {"architecture": "vit_small_patch16_224", "model_args": {"patch_size": (16, 8), "depth": 1}}
    with pytest.raises(ValueError, match="only square patches"):
        describe_backbone(build_backbone(config))
