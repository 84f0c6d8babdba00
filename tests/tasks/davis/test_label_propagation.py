"""Label propagation: the tiled top-k form against the dense script, and what the script leaves undefined."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from srt_distill.tasks.davis.label_propagation import (
    LabelPropagator,
    PropagationOptions,
    _top_k,
    harden_labels,
    propagate_labels,
    shrink_mask,
)
from tests.oracles import propagate_labels_dense, propagate_video_dense


def options(window_radius, top_k=5):
    return PropagationOptions(window_radius=window_radius, top_k=top_k)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(1, 34), st.integers(1, 50)),
    num_context=st.integers(1, 4),
    radius=st.integers(1, 14),
    top_k=st.integers(1, 7),
)
def test_tiles_equal_the_dense_script(
    seed: int, size: tuple[int, int], num_context: int, radius: int, top_k: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(6, *size, generator=generator)
    context = torch.randn(num_context, 6, *size, generator=generator)
    labels = torch.rand(num_context, 3, *size, generator=generator)
    # the script's smallest window, a corner's, must hold top_k tokens: it keeps all pairs of affinity 0 otherwise
    in_corner = min(radius + 1, size[0]) * min(radius + 1, size[1]) * num_context
    top_k = min(top_k, in_corner)
    ours = propagate_labels(query, context, labels, options(radius, top_k))
    torch.testing.assert_close(
        ours, propagate_labels_dense(query, context, labels, radius, top_k, 0.1), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("num_objects", [1, 2, 3, 4, 5, 6])
def test_masks_of_a_video_equal_the_script(patch: int, num_objects: int) -> None:
    generator = torch.Generator().manual_seed(100 * patch + num_objects)
    height, width = 128 // patch, 224 // patch
    scene = F.interpolate(torch.randn(1, 12, height // 3, width // 3, generator=generator), (height, width + 12))[0]
    features = [scene[..., t : t + width] + 0.4 * torch.randn(12, height, width, generator=generator) for t in range(5)]
    mask = np.zeros((128, 224), dtype=np.uint8)
    for k in range(num_objects):
        top, left = 10 + 60 * (k // 3), 10 + 70 * (k % 3)
        mask[top : top + 50, left : left + 60] = k + 1
    first = shrink_mask(mask, num_objects + 1, (height, width))
    expected = propagate_video_dense(features, first, patch, num_context=3, radius=4, top_k=5)
    propagator = LabelPropagator(features[0], first, PropagationOptions(num_context_frames=3, window_radius=4))
    for features_now, reference in zip(features[1:], expected, strict=True):
        ours = harden_labels(propagator.step(features_now), patch).numpy()
        assert ours.shape == (128, 224)
        assert (ours != reference).mean() < 1e-4  # float ties on the line between two labels, no more
        assert len(np.unique(reference)) > 1


def test_without_a_window_every_token_is_looked_at(generator: torch.Generator) -> None:
    query, context = torch.randn(8, 9, 40, generator=generator), torch.randn(2, 8, 9, 40, generator=generator)
    labels = torch.rand(2, 2, 9, 40, generator=generator)
    dense = propagate_labels_dense(query, context, labels, 0, 5, 0.1)  # the script's 0 is no window
    torch.testing.assert_close(propagate_labels(query, context, labels, options(None, 5)), dense, rtol=0, atol=2e-5)


def test_a_perfect_match_outside_the_window_is_not_seen() -> None:
    query, context = torch.zeros(2, 1, 9), torch.zeros(1, 2, 1, 9)
    query[0], context[0, 1] = 1.0, 1.0
    query[:, 0, 0], context[0, :, 0, 6] = torch.tensor([0.6, 0.8]), torch.tensor([0.6, 0.8])
    labels = torch.zeros(1, 2, 1, 9)
    labels[0, 0], labels[0, :, 0, 6] = 1.0, torch.tensor([0.0, 1.0])
    near, far = (propagate_labels(query, context, labels, options(radius, 1)) for radius in (5, 6))
    assert near[:, 0, 0].tolist() == [1.0, 0.0]
    assert far[:, 0, 0].tolist() == [0.0, 1.0]


def test_fewer_tokens_than_top_k_are_all_used() -> None:
    query, context = torch.ones(3, 2, 2), torch.ones(1, 3, 2, 2)
    labels = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert propagate_labels(query, context, labels, options(0, 5))[0, 0].tolist() == [1.0, 0.0]  # itself only
    torch.testing.assert_close(propagate_labels(query, context, labels, options(2, 50)), torch.full((1, 2, 2), 0.25))


def test_half_precision_features_are_compared_in_single(generator: torch.Generator) -> None:
    query = torch.randn(8, 6, 7, generator=generator).bfloat16()
    context, labels = query[None].clone(), torch.rand(1, 2, 6, 7, generator=generator)
    ours = propagate_labels(query, context, labels, options(3, 5))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, propagate_labels(query.float(), context.float(), labels, options(3, 5)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), num_context=st.integers(1, 5), num_keys=st.integers(1, 40), k=st.integers(1, 6))
def test_two_stage_top_k_is_top_k(seed: int, num_context: int, num_keys: int, k: int) -> None:
    values = torch.randn(4, num_context, num_keys, generator=torch.Generator().manual_seed(seed))
    best, where = _top_k(values, k)
    expected = values.flatten(1).topk(min(k, num_context * num_keys), dim=1)
    assert torch.equal(best, expected.values)
    assert torch.equal(where, expected.indices)


def test_context_is_the_first_frame_and_the_latest(generator: torch.Generator) -> None:
    frames = [torch.randn(8, 5, 6, generator=generator) for _ in range(7)]
    labels = [torch.rand(2, 5, 6, generator=generator)]
    propagator = LabelPropagator(frames[0], labels[0], PropagationOptions(num_context_frames=2, window_radius=2))
    for now in range(1, 7):
        used = [0, *range(max(1, now - 2), now)]
        context, known = torch.stack([frames[t] for t in used]), torch.stack([labels[t] for t in used])
        labels.append(propagator.step(frames[now]))
        torch.testing.assert_close(labels[now], propagate_labels(frames[now], context, known, options(2, 5)))


def test_without_context_frames_only_the_first_is_used(generator: torch.Generator) -> None:
    frames = [torch.randn(8, 5, 6, generator=generator) for _ in range(3)]
    first = shrink_mask(np.tile(np.arange(6, dtype=np.uint8) % 2, (5, 1)), 2, (5, 6))
    propagator = LabelPropagator(frames[0], first, PropagationOptions(num_context_frames=0, window_radius=2))
    propagator.step(frames[1])
    torch.testing.assert_close(
        propagator.step(frames[2]), propagate_labels(frames[2], frames[0][None], first[None], options(2, 5))
    )


def test_an_object_smaller_than_a_token_keeps_its_channel() -> None:
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[0, 0], mask[16:, 16:] = 1, 2  # no token centre hits id 1
    labels = shrink_mask(mask, 3, (2, 2))
    assert labels[1].sum() == 0
    assert labels[2].tolist() == [[0.0, 0.0], [0.0, 1.0]]
    ids = harden_labels(labels, 16)
    assert set(ids.unique().tolist()) == {0, 2}


def test_first_mask_is_taken_at_token_centres() -> None:
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[4, 4], mask[4, 12], mask[0, 0] = 1, 2, 3
    assert shrink_mask(mask, 4, (2, 2)).argmax(0).tolist() == [[1, 2], [0, 0]]


@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_channel_is_not_divided_by_its_range(constant: int) -> None:
    soft = torch.zeros(2, 3, 4)
    soft[constant] = 0.7
    assert harden_labels(soft, 8).unique().tolist() == [constant]


def test_channels_are_stretched_before_they_compete() -> None:
    soft = torch.tensor([[[0.9, 0.8, 0.7, 0.6]], [[0.1, 0.2, 0.3, 0.4]]])
    ids = harden_labels(soft, 4)
    assert ids.shape == (4, 16)
    assert ids[0, 0] == 0
    assert ids[0, -1] == 1  # .4 against .6, but each the end of its channel's range
