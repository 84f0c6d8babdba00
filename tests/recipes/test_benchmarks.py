"""Every benchmark runs, on tiny sizes, and writes its page; what it compares is equal. No time is asserted."""

import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "recipes" / "benchmarks"))

import cached_targets
import label_propagation
import measuring
import start_up
import throughput
import tiling
import token_cut
import vos_metrics

from srt_distill.cli import main as srt_distill
from tests.oracles import boundary_accuracy_by_distance, propagate_labels_dense, region_similarity_by_pixel


def page(folder: Path, name: str) -> str:
    text = (folder / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.search(r"^- machine: .*torch", text, re.M)
    assert "nan" not in text
    return text


def cells(text: str) -> list[list[str]]:
    rows = [line.strip("| \n").split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1  # a cell with a bar in it would break the table
    return rows[2:]


def test_label_propagation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_propagation, "measure_peak", lambda *arguments: 1.0)  # a process each, tested below
    tiny = "--patches 16 --size 128 192 --frames 4 --pairs 1 --threads 1"
    label_propagation.main([*tiny.split(), "--output", str(tmp_path)])
    ((what, *_, pixels),) = cells(page(tmp_path, "label_propagation"))
    assert what == "patch 16, 8x12 tokens, 3 contexts"
    assert pixels == "0 of 73728, 0 of them no ties"


@pytest.mark.parametrize("rows", [False, True])
def test_its_baselines_are_the_protocol(rows: bool, generator: torch.Generator) -> None:
    query, context = torch.randn(6, 9, 30, generator=generator), torch.randn(3, 6, 9, 30, generator=generator)
    labels = torch.rand(3, 2, 9, 30, generator=generator)
    window = label_propagation.make_window(9, 30, 4)
    expected = propagate_labels_dense(query, context, labels, label_propagation.RADIUS, 5, 0.1)
    found = label_propagation.propagate_densely(query, context, labels, window, rows=rows)
    torch.testing.assert_close(found, expected)


def test_tiling(tmp_path: Path, generator: torch.Generator) -> None:
    for number in range(2):
        pixels = torch.randint(0, 256, (96, 128, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{number}.png")
    demo = Path(__file__).resolve().parents[2] / "checkpoints" / "demo"
    tiny = f"--backbone local-dir:{demo} --images {tmp_path} --num_images 2 --short_side 96 --tiles 64 16 128 0"
    tiling.main([*tiny.split(), "--output", str(tmp_path)])
    moved, small, whole = cells(page(tmp_path, "tiling"))
    assert (moved[1], whole[1:]) == ("", ["1.000, 0.00"] * 2)  # one tile that holds the image is one pass
    assert 0 < float(small[2].split(",")[0]) < 1


def test_token_cut(tmp_path: Path) -> None:
    tiny = "--num_images 1 --short_side 160 --pairs 1 --threads 1"
    token_cut.main([*tiny.split(), "--output", str(tmp_path)])
    ((_, tokens, *_, differing),) = cells(page(tmp_path, "token_cut"))
    assert (tokens, differing) == ("10x17", "0")


def test_vos_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = vos_metrics.synthetic_pairs(4, size=(96, 160))
    monkeypatch.setattr(vos_metrics, "synthetic_pairs", lambda num_frames: small)
    vos_metrics.main(["--frames", "2", "--pairs", "1", "--sequences", "5", "--output", str(tmp_path)])
    rows = dict(cells(page(tmp_path, "vos_metrics")))
    assert rows["scores equal to the bit, ours and both of these"] == "40 of 40"


def test_its_baseline_is_the_definition() -> None:
    pair = vos_metrics.synthetic_pairs(3, size=(80, 120))[1]
    target, predicted = pair.target[1] == 1, pair.predicted[2] == 1
    for dilate in (vos_metrics.dilate_by_distance, vos_metrics.dilate_by_disk, vos_metrics.dilate_by_convolution):
        j, f = vos_metrics.score_straight(target, predicted, dilate)
        assert j == region_similarity_by_pixel(target, predicted) != 1
        assert f == boundary_accuracy_by_distance(target, predicted) != 1


def test_vos_metrics_on_files(tiny_davis: Path, tmp_path: Path) -> None:
    pairs = vos_metrics.real_pairs(tiny_davis, tiny_davis / "Annotations" / "480p")
    assert [pair.target.shape for pair in pairs] == [(5, 64, 96)] * 2
    assert all((pair.target == pair.predicted).all() for pair in pairs)


def test_cached_targets(tiny_folder: Path, tmp_path: Path) -> None:
    tiny = "--crop 16 --batch_size 2 --batches 2 --radius 1 --shifts_per_step 2 --pairs 1 --device cpu"
    cached_targets.main([*tiny.split(), "--backbone", f"local-dir:{tiny_folder}", "--output", str(tmp_path)])
    rows = cells(page(tmp_path, "cached_targets"))
    assert [row[:2] for row in rows[1:]] == [["cached targets", "0"], ["2 sampled shifts", "2"], ["full grid", "9"]]


def test_start_up(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def run_here(*words: str) -> None:
        if words[:3] == ("-m", "srt_distill", "fit"):
            trained.append(srt_distill(list(words[2:])))

    monkeypatch.setattr(start_up, "run", run_here)
    start_up.main(["--images", "1002", "--pairs", "1", "--backbone", str(tiny_folder), "--output", str(tmp_path)])
    assert "index of 1,002 images" in page(tmp_path, "start_up")
    assert trained == [0]


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)python -c 1/0 failed: .*ZeroDivisionError"):
        start_up.run("-c", "1/0")


def test_throughput(tmp_path: Path) -> None:
    tiny = "--backbones test_vit --size 32 48 --passes 2 --shifts_per_step 2 --batch_size 1 --matmul_side 64 --pairs 1"
    throughput.main([*tiny.split(), "--precision", "fp32", "--device", "cpu", "--output", str(tmp_path)])
    measured, profiled = page(tmp_path, "throughput").split("Where the time of SRT goes")
    srt, step = cells(measured)
    assert srt[0] == "test_vit: SRT, 2 of 49 passes"
    assert srt[-1] == "not measured"  # no time of a frame from two passes
    assert step[-1].endswith(" s")
    assert all(row[0] == "test_vit" and row[2].endswith("%") for row in cells(profiled))


def test_flops_are_those_of_the_products() -> None:
    product, flops = throughput.matmul(32, torch.device("cpu"), torch.float32)
    assert throughput.count_flops(product) == flops == 2 * 32**3
    query = torch.randn(1, 2, 8, 4)
    attention = throughput.count_flops(lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query))
    assert attention == 2 * (2 * 2 * 8 * 8 * 4)


def allocate(num_mib: int):
    return lambda: torch.ones(num_mib, 2**18).sum()


def test_peak_memory_is_that_of_the_job() -> None:
    peak = measuring._peak_here(torch.get_num_threads(), allocate, (200,))
    assert peak is None or 195 < peak < 230


@pytest.mark.slow
def test_peak_memory_in_a_fresh_process() -> None:
    peak = measuring.measure_peak(allocate, 200)
    assert peak is None or 195 < peak < 260


def test_paths_in_the_command_are_relative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "a b.py"), "--data", str(tmp_path.parent / "x"), "--pairs", "3"])
    assert measuring.command_line() == "python 'a b.py' --data ../x --pairs 3"
