"""What the benchmarks share: the machine in words, peak memory, and one Markdown page a benchmark.

Shape legend: none.
"""

import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from srt_distill.files import write_file
from srt_distill.latency import Latency

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def describe_machine(device: torch.device) -> str:
    """Processor, threads, graphics card if it is used, and version of torch."""
    parts = [_processor(), f"{torch.get_num_threads()} threads of {os.cpu_count()} cores", f"torch {torch.__version__}"]
    if device.type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return ", ".join(parts)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unnamed processor")


def command_line() -> str:
    """Return the command that is running, paths relative to where it was called."""
    words = [os.path.relpath(word) if Path(word).is_absolute() else word for word in sys.argv]
    return f"python {shlex.join(words)}"


def seconds(job: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def measure_peak(job: Callable[..., Any], *arguments: Any) -> float | None:
    """Memory in MiB that a job needs at its peak beyond what its process holds before, in a fresh process.

    Resident memory, from the kernel's own high-water mark, reset just before the job begins.

    Args:
        job: A function of a module: called with the arguments it prepares and returns the job proper, a function
            without arguments.
        *arguments: Passed to `job`; to be picklable.

    Returns:
        MiB, or None where the system keeps no such mark (it takes Linux).
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_peak_here, torch.get_num_threads(), job, arguments).result()


def peak_allocated(job: Callable[[], object], device: torch.device) -> float:
    """Memory in MiB that torch allocates at the peak of a job beyond what is allocated before: exact, not sampled.

    Args:
        job: What to measure; it is called once before, uncounted.
        device: What it works on; on a CPU torch's profiler counts.
    """
    job()
    if device.type != "cpu":
        memory = torch.get_device_module(device)
        memory.reset_peak_memory_stats()
        before = memory.memory_allocated()
        job()
        return (memory.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        job()
    kineto: Any = profile.profiler
    events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    changes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(accumulate(changes, initial=0)) / 2**20


def _peak_here(num_threads: int, job: Callable[..., Any], arguments: tuple[Any, ...]) -> float | None:
    torch.set_num_threads(num_threads)
    run = job(*arguments)
    if not PEAK_RESET.exists():
        return None
    before = resident_mib("VmRSS")
    PEAK_RESET.write_text("5")
    run()
    return resident_mib("VmHWM") - before


def resident_mib(field: str) -> float:
    """Read a field of this process's status, such as VmRSS, in MiB (Linux)."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


def speed_up(latency: Latency) -> str:
    """How many times faster the job is than its reference, with the interval round that median."""
    return (
        f"{1 / latency.ratio:.1f}x ({1 / latency.ratio_high:.1f} to {1 / latency.ratio_low:.1f}, "
        f"{latency.num_pairs} pairs in turns)"
    )


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def write_table(
    output: Path,
    name: str,
    claim: str,
    device: torch.device,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *more: str,
) -> None:
    """Write and print one benchmark's page: claim, machine, command and table.

    Args:
        output: Folder of the pages.
        name: Of the benchmark.
        claim: What is measured against what, and how.
        device: What it ran on.
        header: Of the columns.
        rows: The cells.
        *more: Paragraphs and tables (`make_table`) that follow.
    """
    how = f"- machine: {describe_machine(device)}\n- command: `{command_line()}`"
    page = "\n\n".join([f"# {name}", claim.strip(), how, make_table(header, rows), *more]) + "\n"
    write_file(output / f"{name}.md", page)
    print(page)
