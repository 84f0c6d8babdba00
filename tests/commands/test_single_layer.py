"""Methods that `evaluate` and `compare` make of a backbone."""

import pytest
import torch

from srt_distill.backbone import FeatureExtractor, load_backbone
from srt_distill.commands.single_layer import Features, make_method, name_ensemble
from srt_distill.ensemble import StochasticResonance


@pytest.fixture(scope="module")
def model(tiny_folder):
    return load_backbone(f"local-dir:{tiny_folder}")


def method_of(model, features, views_per_batch="auto"):
    return make_method("some", model, features, views_per_batch=views_per_batch, device=torch.device("cpu"))


@pytest.mark.parametrize(("subset", "passes"), [("full", 25), ("checkerboard", 13), ("grid16", 16), ("grid9", 9)])
def test_a_subset_costs_and_gives_what_it_says(model, subset, passes):
    method = method_of(model, Features(-1, True, 2, "edge", subset))
    assert method.passes == passes
    images = torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    by_hand = StochasticResonance(FeatureExtractor(model), 2, subset=subset)(images)[0]
    with torch.no_grad():
        assert torch.allclose(method.extract(images)[0], by_hand, atol=1e-5)


def test_what_changes_features_changes_the_fingerprint(model):
    prints = [method_of(model, Features(-1, True, 2, "edge", subset)).fingerprint for subset in ("full", "grid9")]
    assert prints[0] != prints[1]


def test_part_of_the_grid_is_named_in_tables():
    assert name_ensemble(3, "full") == "SRT d=3"
    assert name_ensemble(3, "grid9") == "SRT d=3 grid9"
