"""Held-out scores."""

import pytest
import torch

from srt_distill.training.feature_metrics import EquivarianceError, FeatureSpread, GapClosed, weight_drift


def test_gap_closed_is_one_minus_the_ratio_of_summed_squares():
    torch.manual_seed(0)
    metric = GapClosed()
    student_sum = teacher_sum = 0.0
    for size in (2, 5):
        student, teacher, srt = torch.randn(3, size, 4, 2, 3)
        metric.update(student, teacher, srt)
        student_sum += ((student - srt) ** 2).sum().item()
        teacher_sum += ((teacher - srt) ** 2).sum().item()
    assert metric.compute().item() == pytest.approx(1 - student_sum / teacher_sum, rel=1e-5)


def test_gap_closed_at_its_landmarks():
    teacher, srt = torch.randn(2, 1, 4, 2, 3)
    for student, expected in ((teacher, 0.0), (srt, 1.0), ((teacher + srt) / 2, 0.75)):
        metric = GapClosed()
        metric.update(student, teacher, srt)
        assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


def test_no_gap_is_no_division_by_zero():
    maps = torch.randn(1, 4, 2, 3)
    metric = GapClosed()
    metric.update(maps, maps, maps)
    assert metric.compute() == 0


def test_equivariance_error_is_relative():
    single, moved = torch.randn(2, 3, 4, 2, 3)
    one, scaled = EquivarianceError(), EquivarianceError()
    one.update(single, moved)
    scaled.update(10 * single, 10 * moved)
    assert one.compute().item() == pytest.approx(scaled.compute().item(), rel=1e-5)
    assert one.compute().item() == pytest.approx(
        ((moved - single) ** 2).sum().item() / (single**2).sum().item(), rel=1e-5
    )
    perfect = EquivarianceError()
    perfect.update(single, single)
    assert perfect.compute() == 0


def test_effective_rank_and_variance_are_those_of_the_token_matrix():
    maps = torch.randn(6, 5, 4, 3, generator=torch.Generator().manual_seed(0)) + 7
    maps[:, 3] = 0.1 * maps[:, 0]
    metric = FeatureSpread()
    for batch in (maps[:4], maps[4:]):
        metric.update(batch)
    rank, variance = metric.compute()
    tokens = maps.permute(0, 2, 3, 1).reshape(-1, 5).double()
    sizes = torch.linalg.svdvals(tokens - tokens.mean(0))
    shares = sizes[sizes > 1e-9] / sizes.sum()
    assert rank.item() == pytest.approx(torch.exp(-(shares * shares.log()).sum()).item(), rel=5e-3)
    assert variance.item() == pytest.approx(tokens.var(0, correction=0).sum().item(), rel=1e-4)


def test_effective_rank_at_its_landmarks():
    line, round_ = FeatureSpread(), FeatureSpread()
    line.update(torch.linspace(-1, 1, 8).view(8, 1, 1, 1) * torch.ones(8, 4, 1, 1))
    round_.update(torch.cat([torch.eye(4), -torch.eye(4)])[..., None, None])
    assert line.compute()[0].item() == pytest.approx(1, abs=1e-2)
    assert round_.compute()[0].item() == pytest.approx(4, rel=1e-5)
    still = FeatureSpread()
    still.update(torch.ones(2, 4, 3, 3))
    assert torch.isfinite(torch.stack(still.compute())).all()


def test_weight_drift_is_relative():
    start = [torch.ones(3), torch.full((2, 2), 2.0)]
    moved = [(start[0], start[0]), (start[1] + 0.5, start[1])]
    assert weight_drift(moved).item() == pytest.approx((1 / 19) ** 0.5)
    assert weight_drift(zip(start, start)) == 0
