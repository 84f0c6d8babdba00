"""The recipe that tries all of timm: one name of each kind passes, and every law it checks can fail."""

import copy
import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "benchmarks"))

import breadth
from breadth_families import FAMILIES, family_of, names_in_turns

from srt_distill.backbone import FeatureExtractor, build_backbone, describe_backbone, save_backbone
from srt_distill.ensemble import StochasticResonance

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning", "ignore:.*LeafSpec")

KINDS = [
    "vit_small_patch16_224",  # plain; DINO's and MAE's too
    "deit_tiny_distilled_patch16_224",  # two prefix tokens
    "vit_small_patch14_reg4_dinov2",  # registers, patch 14
    "vit_small_patch16_dinov3",  # rotary positions
    "vit_base_patch16_siglip_224",  # no prefix token
    "beit_base_patch16_224",  # relative positions, fixed size
    "eva02_tiny_patch14_224",
    "swin_tiny_patch4_window7_224",
    "pvt_v2_b0",
    "resnet18",
]


@pytest.mark.parametrize("name", KINDS)
def test_one_of_each_kind_passes(name: str):
    row = breadth.check_model(name)
    assert row["status"] == "pass", row
    assert row["any_size"] == (not name.startswith("beit"))
    assert json.loads(json.dumps(row))["loss_after"] < row["loss_before"]


def test_a_name_off_the_grid_is_refused_with_the_reason():
    row = breadth.check_model("pit_ti_224")
    assert row["status"] == "refused"
    assert "do not tile the image" in row["reason"]


def test_a_fault_behind_the_features_is_no_refusal(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_):
        raise ValueError("the folder does not fit")

    monkeypatch.setattr(breadth, "check_distillation", refuse)
    row = breadth.check_model("test_vit")
    assert (row["status"], row["reason"]) == ("failed", "ValueError('the folder does not fit')")


@pytest.fixture
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    args = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    return build_backbone({"architecture": "vit_small_patch16_224", "model_args": args, "num_classes": 0})


def check(model: torch.nn.Module, layers: tuple[int, ...] = (0, 1)) -> dict[str, float]:
    return breadth.check_features(model, describe_backbone(model), layers, (32, 48))


def test_features_that_are_random_fail(model: torch.nn.Module):
    assert max(check(model).values()) < 1e-6
    model.get_submodule("pos_drop").p = 0.5
    with pytest.raises(RuntimeError, match="differs from it among others"):
        check(model.train())


def test_features_that_are_not_as_declared_fail(model: torch.nn.Module):
    model.feature_info[0]["num_chs"] = 25
    with pytest.raises(RuntimeError, match=r"maps .* declared .*25"):
        check(model)


def test_a_wrong_ensemble_fails(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(breadth, "StochasticResonance", partial(StochasticResonance, border="zeros"))
    with pytest.raises(RuntimeError, match="off the literal oracle"):
        check(model)


def test_one_colour_moves_where_the_ensemble_is_wrong(model: torch.nn.Module):
    constant = torch.full((1, 3, 32, 48), 0.7)
    extract = FeatureExtractor(model)
    with torch.no_grad():
        single = extract(constant)
        right, wrong = (StochasticResonance(extract, 1, border=border)(constant) for border in ("edge", "zeros"))
    assert breadth.drift(single, right) < 1e-6
    assert breadth.drift(single, wrong) > 1e-3
    assert breadth.drift(single, (single[0].flip(-1),)) < 1e-6  # means and ranges alone: the oracle sees the rest
    assert breadth.drift(single, (2 * single[0],)) > 1e-3


def test_a_loss_that_stays_fails(model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_backbone(model, tmp_path)
    monkeypatch.setattr(breadth, "LEARNING_RATES", (0.0,))
    with pytest.raises(RuntimeError, match="the loss did not fall"):
        breadth.check_distillation(tmp_path, (-1,), (32, 48))


def test_an_export_that_differs_fails(model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    student = copy.deepcopy(model)
    with pytest.raises(RuntimeError, match="the student never moved"):
        breadth.check_export(student, model, tmp_path, (32, 48))
    with torch.no_grad():
        student.get_parameter("norm.weight").mul_(1.1)
    breadth.check_export(student, model, tmp_path, (32, 48))
    monkeypatch.setattr(breadth, "save_backbone", lambda student, folder: save_backbone(model, folder))
    with pytest.raises(RuntimeError, match="the export differs from the student"):
        breadth.check_export(student, model, tmp_path, (32, 48))


def test_names_come_in_turns():
    names = names_in_turns()
    assert len(names) == len(set(names)) > 400
    assert [family_of(name) for name in names[: len(FAMILIES)]] == list(FAMILIES)


def test_the_committed_table_is_of_the_committed_rows():
    folder = breadth.RESULTS / "breadth"
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    page = (folder / "README.md").read_text()
    num_passed = sum(row["status"] == "pass" for row in rows)
    assert num_passed >= 100
    assert f"{num_passed} of {len(rows)} timm names pass" in page
    assert {row["family"] for row in rows} <= {family.title for family in FAMILIES}
