"""Faster ways to run a backbone give the features that the plain way gives."""

import copy

import pytest
import torch
from torch import nn

from srt_distill.backbone import FeatureExtractor, hash_weights, load_backbone
from srt_distill.backbone.execution import compile_blocks, run_with
from srt_distill.backbone.options import KernelOptions
from srt_distill.ensemble import StochasticResonance
from srt_distill.training.targets import SampledShifts
from tests.training.distilling import distillation, loader, quiet_trainer


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return load_backbone("test_vit", pretrained=False)


def features(extract, size=(64, 80)):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return StochasticResonance(extract, 1)(images)[0]


def relative(ours, exact):
    return ((ours - exact).norm() / exact.norm()).item()


def test_bfloat16_is_within_one_percent_and_is_no_full_precision(model):
    exact, ours = features(FeatureExtractor(model)), features(run_with(FeatureExtractor(model), "bfloat16"))
    assert run_with(FeatureExtractor(model), "bfloat16")(torch.zeros(1, 3, 32, 32))[0].dtype == torch.float32
    assert 1e-5 < relative(ours, exact) < 1e-2


@pytest.mark.parametrize("kernel", ["flash", "math"])
def test_attention_kernels_agree_to_rounding(model, kernel):
    exact, ours = features(FeatureExtractor(model)), features(run_with(FeatureExtractor(model), attention=kernel))
    assert relative(ours, exact) < 1e-6


def test_the_chosen_kernel_is_the_one_that_runs(model):
    extract = run_with(FeatureExtractor(model), attention="math")
    with torch.profiler.profile() as profile:
        features(extract)
    names = {event.name for event in profile.events()}
    assert "aten::_scaled_dot_product_attention_math" in names
    assert not any("flash" in name for name in names)


def test_a_kernel_that_cannot_run_here_is_named(model):
    extract = run_with(FeatureExtractor(model), attention="cudnn")
    with pytest.raises(RuntimeError, match="attention kernel 'cudnn' cannot run this model on cpu.*use 'auto'"):
        features(extract)


def test_nothing_to_change_is_the_extractor_itself(model):
    extract = FeatureExtractor(model)
    assert run_with(extract) is extract


@pytest.mark.slow
def test_compiled_blocks_agree_to_rounding_and_change_no_key(model):
    compiled = copy.deepcopy(model)
    compile_blocks(compiled)
    for size in ((64, 80), (64, 96)):
        exact = features(FeatureExtractor(model), size)
        assert relative(features(FeatureExtractor(compiled), size), exact) < 1e-5
    assert list(compiled.state_dict()) == list(model.state_dict())
    assert hash_weights(copy.deepcopy(compiled)) == hash_weights(model)


def test_a_network_without_blocks_is_not_compiled():
    with pytest.raises(ValueError, match="Conv2d has none of blocks, stages, layers.*leave compile off"):
        compile_blocks(nn.Conv2d(1, 1, 1))


@pytest.mark.slow
def test_a_compiled_training_is_the_plain_one(tiny_folder, tmp_path):
    runs = {}
    for name, settings in {"plain": {}, "compiled": {"compile": True}, "math": {"attention": "math"}}.items():
        module = distillation(tiny_folder, target=SampledShifts(2), execution=KernelOptions(**settings))
        quiet_trainer(tmp_path, max_steps=4).fit(module, loader())
        runs[name] = module.student.state_dict()
    moved = relative_of(runs["plain"], load_backbone(f"local-dir:{tiny_folder}").state_dict())
    assert moved > 1e-3
    for name in ("compiled", "math"):
        assert runs[name].keys() == runs["plain"].keys()
        assert relative_of(runs[name], runs["plain"]) < 1e-2 * moved


def relative_of(ours, exact):
    difference = sum((ours[name] - exact[name]).square().sum() for name in exact)
    return (difference / sum(value.square().sum() for value in exact.values())).sqrt().item()
