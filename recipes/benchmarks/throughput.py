"""Throughput of SRT and of a training step, as a share of what the machine's matrix multiplication reaches.

Claim:    on a GPU SRT at d = 3 takes S/16 at 480x832 less than the paper's 1.0 s a frame (RTX 3090), near the card's
          own rate of large matrix products
Source:   paper, Sect. 2.5 (time); FLOPs are counted by torch.utils.flop_counter, a multiply-add as two
Command:  python recipes/benchmarks/throughput.py   (GPU: bf16, all 49 passes)
          python recipes/benchmarks/throughput.py --passes 3 --shifts_per_step 2 --pairs 1
Takes:    a minute on a GPU; the second command, for 2 CPU cores, about 3 minutes

Where fewer passes than the full grid are measured, the table says how many and gives no time of a whole frame. A
training step is one with k sampled shifts: k passes of the teacher, the student's forward and backward, AdamW.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from measuring import RESULTS, make_table, write_table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from srt_distill.backbone import FeatureExtractor, load_backbone
from srt_distill.ensemble import StochasticResonance
from srt_distill.latency import time_pairs
from srt_distill.training.losses import feature_distance

PAPER_SECONDS = 1.0  # a frame, RTX 3090 (Section 2.5)


def srt_call(backbone: str, images: Tensor, passes: int, views_per_batch: int) -> Callable[[], object]:
    """SRT of a backbone over the first `passes` shifts of the grid of radius 3, ready to be run."""
    extract = FeatureExtractor(load_backbone(backbone, pretrained=False).eval().to(images.device))
    srt = StochasticResonance(extract, radius=3, views_per_batch=views_per_batch)
    return partial(torch.inference_mode()(srt), images, srt.shifts[:passes])


def training_step(backbone: str, images: Tensor, num_shifts: int) -> Callable[[], object]:
    """Prepare a training step on sampled shifts."""
    student, teacher = (load_backbone(backbone, pretrained=False).eval().to(images.device) for _ in range(2))
    srt = StochasticResonance(FeatureExtractor(teacher.requires_grad_(False)), radius=3, views_per_batch=num_shifts)
    features, optimizer = FeatureExtractor(student), torch.optim.AdamW(student.parameters(), lr=1e-5)
    shifts = srt.shifts[:: len(srt.shifts) // num_shifts][:num_shifts]

    def step() -> None:
        with torch.no_grad():
            target = srt(images, shifts)[0]
        loss = feature_distance(features(images)[0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def count_flops(job: Callable[[], object]) -> int:
    """Floating point operations of a job; attention runs unfused here, as its two products are what can be counted."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        job()
    return counter.get_total_flops()


def matmul(side: int, device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """Prepare a large matrix product; return it with its FLOPs."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return partial(torch.mm, left, right), 2 * side**3


def top_rows(job: Callable[[], object], device: torch.device, num_rows: int = 6) -> list[list[str]]:
    """Find the operations that a job spends most of its time in, with their shares."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as recorded:
        job()
    times = {
        row.key: row.self_device_time_total if on_gpu else row.self_cpu_time_total for row in recorded.key_averages()
    }
    total = sum(times.values())
    first = sorted(times, key=lambda key: -times[key])[:num_rows]
    return [[f"`{key[:60]}`", f"{100 * times[key] / total:.1f}%"] for key in first]


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the tables."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["vit_small_patch16_224", "vit_base_patch16_224"])
    parser.add_argument("--size", type=int, nargs=2, default=(480, 832))
    parser.add_argument("--passes", type=int, default=49, help="shifts of the 49 that are run")
    parser.add_argument("--views_per_batch", type=int, default=7 if cuda else 1)
    parser.add_argument("--shifts_per_step", type=int, default=4, help="of the training step")
    parser.add_argument("--batch_size", type=int, default=4 if cuda else 1, help="of the training step")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16" if cuda else "fp32")
    parser.add_argument("--matmul_side", type=int, default=8192 if cuda else 2048)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)

    device = torch.device(options.device)
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    product, product_flops = matmul(options.matmul_side, device, dtype)

    def autocast() -> AbstractContextManager:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.precision == "bf16")

    def measure(name: str, job: Callable[[], object], frames: int, whole: bool) -> list[str]:
        with autocast():
            flops = count_flops(job)
            latency = time_pairs(job, product, device, max_pairs=options.pairs, budget=30.0)
        share = flops / product_flops / latency.ratio  # (flops / seconds) / (product's flops / product's seconds)
        rate = flops / latency.seconds / 1e12
        seconds = f"{latency.seconds / frames:.3f} s" if whole else "not measured"
        return [name, f"{flops / 1e12:.2f}", f"{latency.seconds:.3f} s", f"{rate:.2f}", f"{100 * share:.0f}%", seconds]

    rows, profiles = [], []
    images = torch.randn(options.batch_size, 3, *options.size, generator=torch.Generator().manual_seed(0)).to(device)
    whole = options.passes >= 49
    for backbone in options.backbones:
        job = srt_call(backbone, images[:1], options.passes, options.views_per_batch)
        rows.append(measure(f"{backbone}: SRT, {min(options.passes, 49)} of 49 passes", job, 1, whole))
        with autocast():
            profiles += [[backbone, *row] for row in top_rows(job, device)]
        k = options.shifts_per_step
        step = training_step(backbone, images, k)
        name = f"{backbone}: training step, {k} shifts, batch {options.batch_size}"
        rows.append(measure(name, step, options.batch_size, True))
    with autocast():
        latency = time_pairs(product, product, device, max_pairs=options.pairs)
    peak = product_flops / latency.seconds / 1e12
    height, width = options.size
    side, precision = options.matmul_side, options.precision
    claim = f"""SRT (shift radius 3) and a training step at {height}x{width}, {precision}, beside a product of matrices
of side {side}, timed in turns with each ({peak:.2f} TFLOP/s). Paper: {PAPER_SECONDS} s a frame for SRT of S/16 on an
RTX 3090. Weights are random: that changes no time."""
    header = ["what", "TFLOP", "time", "TFLOP/s", "share of matrix product", "a frame"]
    where = "Where the time of SRT goes, operations by their own time (torch.profiler):"
    profiled = make_table(["backbone", "operation", "share"], profiles)
    write_table(options.output, "throughput", claim, device, header, rows, where, profiled)


if __name__ == "__main__":
    main()
