"""Held-out scores."""

import pytest
import torch

from srt_distill.metrics import EquivarianceError, GapClosed


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
