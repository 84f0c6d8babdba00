import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.tasks.regions import lost
from tests.oracles import lost_literally


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 6), width=st.integers(1, 6), num_candidates=st.integers(1, 40))
def test_it_is_the_paper_taken_literally(seed, height, width, num_candidates):
    features = np.random.default_rng(seed).integers(-3, 4, (4, height, width)).astype(float)
    features[0] += 0.25  # no token of zeros
    region, _ = lost(torch.tensor(features), num_candidates)
    assert (region == lost_literally(features, num_candidates)).all()


def test_the_smaller_of_two_constant_regions_is_the_object():
    mask = torch.zeros(10, 12, dtype=torch.long)
    mask[2:6, 3:8] = 1
    region, seed = lost(torch.eye(2)[mask].permute(2, 0, 1))
    assert (region == mask.bool().numpy()).all()
    assert seed == 27  # the first of those that share the lowest degree


def test_keys_are_not_normalised():
    """The sum over the seed's kin weighs long keys more: with unit keys the last token would be outside."""
    features = torch.tensor([[[1.0, 1.0, 0.1, -9.0]], [[0.0, 0.5, 9.0, 1.0]]])
    assert (lost(features)[0] == lost_literally(features.numpy())).all()


def test_tokens_of_zeros_are_objects_of_their_own():
    region, _ = lost(torch.zeros(3, 2, 2))
    assert region.sum() == 1
