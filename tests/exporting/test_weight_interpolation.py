"""Weights between teacher and student: exact at every name, neither of them touched, and said where they go."""

import json

import pytest
import timm
import torch

from srt_distill.backbone import hash_weights
from srt_distill.exporting import export_student
from srt_distill.exporting.weight_interpolation import interpolate_weights


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_every_tensor_lies_between(run, alpha):
    before = hash_weights(run.student), hash_weights(run.teacher)
    mixed = interpolate_weights(run, alpha).student.state_dict()
    start, end = run.teacher.state_dict(), run.student.state_dict()
    assert list(mixed) == list(end)
    moved, furthest = 0, 0.0
    for name, weights in mixed.items():
        expected = (1 - alpha) * start[name].double() + alpha * end[name].double()
        torch.testing.assert_close(weights.double(), expected, rtol=0, atol=1e-6)
        moved += int(not torch.equal(weights, start[name]))
        furthest = max(furthest, float((end[name].double() - start[name].double()).abs().max()))
    assert moved > 10 and furthest > 1e-4  # far beyond the tolerance above
    assert (hash_weights(run.student), hash_weights(run.teacher)) == before


def test_all_the_way_is_the_run_itself(run):
    assert interpolate_weights(run, 1.0) is run


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 1.01, float("nan")])
def test_alpha_lies_between_teacher_and_student(run, tmp_path, alpha):
    with pytest.raises(ValueError, match=r"alpha .* is not above 0 and at most 1"):
        export_student(run, tmp_path / "mine", alpha=alpha)
    assert not (tmp_path / "mine").exists()


def test_an_export_of_it_is_proven_and_described_as_such(run, tmp_path):
    exported = export_student(run, tmp_path / "half", alpha=0.5, budget=0.0)
    (proof,) = exported.proofs
    assert set(proof.differences.values()) == {0.0}
    model = timm.create_model(f"local-dir:{exported.folder}", pretrained=True)
    assert hash_weights(model) == exported.student_hash == hash_weights(interpolate_weights(run, 0.5).student)
    assert exported.student_hash not in (hash_weights(run.student), hash_weights(run.teacher))
    assert json.loads((tmp_path / "half" / "parity.json").read_text())["alpha"] == 0.5
    card = (tmp_path / "half" / "README.md").read_text()
    assert "lie 0.5 of the way from the teacher's" in card
    assert "gap closed" not in card and "model-index" not in card  # measured of other weights
