"""Positions projected out: against a loop over directions, and what it must leave alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srt_distill.ensemble.positional_projection import PositionalProjection
from srt_distill.images import Normalization
from tests.oracles import project_out_literally

UNIT = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def with_positions(images):
    """Eight channels of content, and in fewer and fewer of their directions more and more of position."""
    generator = torch.Generator().manual_seed(0)
    content = F.conv2d(images, torch.randn(8, 3, 4, 4, generator=generator, dtype=images.dtype), stride=4)
    axes = (torch.linspace(-1, 1, n, dtype=images.dtype) for n in content.shape[-2:])
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    for step, direction in enumerate(torch.randn(6, 8, 1, 1, generator=generator, dtype=images.dtype)):
        content = content + 20 * 0.3**step * direction * torch.sin((step + 1) * rows + (step % 3) * columns)
    return content, images.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_projection_is_the_literal_one(share):
    images = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    ours, whole = PositionalProjection(with_positions, UNIT, share)(images)
    black = with_positions(torch.full((1, 3, 16, 24), -2.0, dtype=torch.float64))[0][0].flatten(1).numpy()
    for mine, plain in zip(ours, with_positions(images)[0]):
        literal = project_out_literally(plain.flatten(1).numpy(), black, round(share * 8))
        assert np.abs(mine.flatten(1).numpy() - literal).max() < 1e-10
    assert torch.equal(whole, with_positions(images)[1])
    assert share or torch.equal(ours, with_positions(images)[0])


def test_an_image_without_content_is_left_without_structure():
    black = torch.full((1, 3, 16, 24), -2.0, dtype=torch.float64)
    plain, _ = with_positions(black)
    ours, _ = PositionalProjection(with_positions, UNIT, 0.5)(black)
    assert F.normalize(plain, dim=1).var((2, 3)).sum() > 0.1
    assert ours.sub(ours.mean((2, 3), keepdim=True)).norm() < 0.2 * plain.sub(plain.mean((2, 3), keepdim=True)).norm()


def test_the_black_image_is_run_once_per_size():
    seen = []
    extract = PositionalProjection(lambda x: seen.append(x.shape) or with_positions(x), UNIT)
    for width in (24, 24, 32, 24):
        extract(torch.randn(1, 3, 16, width))
    assert len(seen) == 6


def test_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"share 1.0 .* INSID3 removes 0.488"):
        PositionalProjection(with_positions, UNIT, 1.0)
