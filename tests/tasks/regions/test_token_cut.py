import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh

from srt_distill.tasks.regions import CutOptions, token_cut
from srt_distill.tasks.regions.components import enclosing_box
from srt_distill.tasks.regions.token_cut import choose_side, edge_share, second_eigenvector, similarity_graph
from tests.oracles import token_cut_literally


def blobs(seed, height=6, width=8, channels=12, noise=0.6):
    """Two directions, one inside a rectangle and one outside, under noise."""
    generator = np.random.default_rng(seed)
    directions = generator.standard_normal((2, channels))
    inside = np.zeros((height, width), dtype=int)
    inside[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = 1
    features = directions[inside].transpose(2, 0, 1) + noise * generator.standard_normal((channels, height, width))
    return torch.tensor(features, dtype=torch.float32)


def aligned(vector, other):
    return vector * np.sign(vector @ other)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(2, 7), width=st.integers(2, 7), noise=st.floats(0.1, 1.5))
def test_it_is_the_script_taken_literally(seed, height, width, noise):
    features = blobs(seed, height, width, noise=noise)
    vector, region = token_cut_literally(features.double().numpy())
    cut = token_cut(features)
    graph = similarity_graph(features, 0.2)
    spectrum = normalised_spectrum(graph)
    if spectrum[-2] - spectrum[-3] < 1e-6:
        return  # two eigenvectors, and any mixture of them, have equal claims
    assert np.abs(aligned(cut.vector.ravel(), vector) - vector).max() <= 1e-5 * np.abs(vector).max()
    if np.sort(np.abs(vector))[-2] < np.abs(vector).max() * (1 - 1e-6):
        assert (cut.region == region).all()


def normalised_spectrum(graph, weak_edge=1e-5):
    weights = np.where(graph, 1.0, weak_edge)
    degrees = np.diag(weights.sum(1))
    return 1 - eigh(degrees - weights, degrees, eigvals_only=True)[::-1]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), num_parts=st.integers(2, 6), density=st.floats(0.02, 0.9))
def test_the_eigenvector_of_large_graphs_equals_dense_eigh(seed, num_parts, density):
    """Near-disconnected graphs included, whose eigenvalues crowd at 1."""
    generator = np.random.default_rng(seed)
    part = generator.integers(num_parts, size=150)
    chance = np.where(part[:, None] == part, density, 0.002)
    graph = np.triu(generator.random((150, 150)) < chance, 1)
    graph = graph | graph.T | np.eye(150, dtype=bool)
    weights = np.where(graph, 1.0, 1e-5)
    degrees = np.diag(weights.sum(1))
    values, vectors = eigh(degrees - weights, degrees, subset_by_index=[1, 2])
    vector, expected = second_eigenvector(graph, 1e-5), vectors[:, 0]
    assert vector @ degrees @ vector == pytest.approx(1)
    quotient = vector @ (degrees - weights) @ vector
    assert quotient == pytest.approx(values[0], abs=1e-10)
    if values[1] - values[0] > 1e-7:
        assert np.abs(aligned(vector, expected) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_smaller_of_two_constant_regions_is_the_foreground_whichever_its_value():
    for flip in (False, True):
        directions = torch.eye(2)[:, [1, 0] if flip else [0, 1]]
        mask = torch.zeros(10, 12, dtype=torch.long)
        mask[2:6, 3:8] = 1
        cut = token_cut(directions[mask].permute(2, 0, 1))
        assert (cut.region == mask.bool().numpy()).all()
        assert not cut.failed


def test_only_the_seeds_part_of_its_side_is_kept():
    mask = torch.zeros(8, 12, dtype=torch.long)
    mask[1:4, 1:4] = 1
    mask[5:7, 8:10] = 1
    cut = token_cut(torch.eye(2)[mask].permute(2, 0, 1))
    expected = np.zeros((8, 12), dtype=bool)
    expected[1:4, 1:4] = True  # both are as large in the eigenvector: the first token counts
    assert (cut.region == expected).all()
    assert cut.seed == 13


def test_the_sign_of_the_eigenvector_means_nothing():
    vector = np.array([0.1, 0.2, -0.9, 0.3, 0.3])
    inside, seed = choose_side(vector)
    assert seed == 2
    assert inside.tolist() == [False, False, True, False, False]
    assert choose_side(-vector)[0].tolist() == inside.tolist()


def test_graphs_of_nearly_all_or_no_edges_are_called_failed():
    same = torch.ones(4, 5, 6) + 0.01 * torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    assert token_cut(same).edge_share == 1
    assert token_cut(same).failed
    apart = token_cut(blobs(0), CutOptions(threshold=0.999))
    assert apart.edge_share < 0.05
    assert apart.failed
    assert edge_share(np.array([[True, True, False], [True, True, False], [False, False, True]])) == pytest.approx(
        1 / 3
    )


def test_a_cosine_at_the_threshold_is_no_edge():
    tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).T[:, None]
    assert similarity_graph(tokens, 0.0).tolist() == [[True, False], [False, True]]
    assert similarity_graph(tokens, -0.1).all()


def test_one_token_cannot_be_cut():
    with pytest.raises(ValueError, match="one token"):
        token_cut(torch.ones(3, 1, 1))


def test_the_box_ends_after_the_last_token_and_stays_in_the_image():
    region = np.zeros((4, 6), dtype=bool)
    region[1:3, 2:6] = True
    assert enclosing_box(region, 16, (60, 90)) == (32, 16, 90, 48)
