"""The student costs what its teacher costs, and the folder says so."""

import json
from dataclasses import replace

import pytest
import torch

from srt_distill.backbone import build_backbone
from srt_distill.exporting.parity import count_flops, measure_parity

SIZE = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def tiny(**changes):
    return build_backbone({"architecture": "vit_tiny_patch16_224", "model_args": {**SIZE, **changes}, "num_classes": 0})


def test_operations_are_those_of_the_products_a_vit_is_made_of():
    tokens, c, blocks = 4 * 6 + 1, 24, 2
    embedding = 4 * 6 * (3 * 8 * 8) * c
    linear = tokens * c * (3 * c + c + 4 * c + 4 * c)
    attention = 2 * tokens * tokens * c
    images = torch.zeros(1, 3, 32, 48)
    assert count_flops(tiny(), images) == 2 * (embedding + blocks * (linear + attention))
    assert count_flops(tiny(), images.expand(3, -1, -1, -1)) == 3 * count_flops(tiny(), images)


def test_student_and_teacher_cost_the_same():
    images = torch.zeros(1, 3, 32, 32)
    parity = measure_parity(tiny(), tiny(), images, budget=2.0)
    assert parity.student_flops == parity.teacher_flops > 0
    assert parity.keys_and_shapes == len(tiny().state_dict())
    assert parity.image_size == (32, 32)
    assert parity.latency.num_pairs > 1
    assert 0.2 < parity.latency.ratio < 5  # a loaded machine is no reason to fail


def test_the_verdict_follows_the_interval():
    parity = measure_parity(tiny(), tiny(), torch.zeros(1, 3, 32, 32), budget=0.0)
    inside = replace(parity, latency=replace(parity.latency, ratio_low=0.9, ratio_high=1.1))
    outside = replace(parity, latency=replace(parity.latency, ratio_low=1.01, ratio_high=1.1))
    assert "as fast as the teacher" in inside.verdict
    assert "1 lies outside 1.010 to 1.100" in outside.verdict


def test_another_architecture_is_no_student():
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(RuntimeError, match=r"differ in keys or shapes: .*blocks\.1"):
        measure_parity(tiny(), tiny(depth=1), images)
    with pytest.raises(RuntimeError, match=r"differ in keys or shapes: .*\(32, 24\)"):
        measure_parity(tiny(), tiny(mlp_ratio=32 / 24), images)
    slower = tiny()
    slower.blocks[0].register_forward_pre_hook(lambda _, tokens: (tokens[0] @ torch.eye(24),))
    with pytest.raises(RuntimeError, match=r"takes [\d,]+ operations, of the teacher [\d,]+"):
        measure_parity(tiny(), slower, images)


def test_the_folder_carries_the_proof(exported):
    record = json.loads((exported.folder / "parity.json").read_text())
    parity = exported.parity
    assert record["folder"] == "adapted"
    assert record["parity"]["student_flops"] == record["parity"]["teacher_flops"] == parity.student_flops
    assert record["parity"]["verdict"] == parity.verdict
    assert record["proofs"][0]["differences"]["80x120"] == 0
    card = (exported.folder / "README.md").read_text()
    assert f"| operations of a pass at 32x32 | {parity.student_flops:,} | {parity.teacher_flops:,} |" in card
    assert parity.verdict in card
    assert str(exported.folder.parent) not in card + json.dumps(record)
