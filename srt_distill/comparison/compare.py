"""Extractors side by side on DAVIS: what each scores, what it costs, and how much of SRT's gain it has.

Shape legend: H W pixels.

Teacher, SRT, student and baselines are rows alike: one evaluation each under the same protocol.
"""

import json
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from srt_distill.comparison.report import draw_pictures, render_html, render_markdown
from srt_distill.comparison.rows import Comparison, Method, Row, check_methods
from srt_distill.files import require_writable, write_file
from srt_distill.latency import measure_latency
from srt_distill.tasks.davis.evaluation import evaluate_davis
from srt_distill.tasks.davis.result_files import DavisResult
from srt_distill.tasks.davis.videos import (
    Video,
    list_sequences,
    network_size,
    open_videos,
    prepare_frame,
    read_frame,
)


def compare(
    methods: Sequence[Method],
    data: Path,
    output: Path,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    reference: str | None = None,
    ensemble: str | None = None,
    split: str = "val",
    year: str = "2017",
    sequences: Sequence[str] | None = None,
    scale: float = 1.0,
    size_multiple: int = 64,
    num_context_frames: int = 7,
    window_radius: int | None = 12,
    top_k: int = 5,
    temperature: float = 0.1,
    device: torch.device,
    num_workers: int = 2,
    progress: bool = True,
    latency_pairs: int = 15,
    latency_budget: float = 20.0,
    num_pictures: int = 4,
) -> Comparison:
    """Evaluates methods under one protocol and writes `results.json`, `results.md` and `report.html`.

    Each method's masks and tables go to a folder of its own, where a finished sequence is not computed again. Numbers
    are on disk before pictures are drawn.

    Args:
        methods: rows in order; at least two.
        data: the DAVIS folder.
        output: where results go.
        mean: per channel, what the extractors' images are normalised with.
        std: per channel.
        reference: name of the method that others are measured against; the first by default.
        ensemble: name of the method whose gain is the whole, such as full SRT; None gives no shares.
        split: name of the list under `ImageSets/<year>`.
        year: which lists.
        sequences: names to evaluate instead of the whole split.
        scale: factor on the short side of 480 pixels.
        size_multiple: what the long side is cut down to a multiple of.
        num_context_frames: previous frames to look at besides the first.
        window_radius: half side of the window in tokens, itself left out; None looks everywhere.
        top_k: how many context tokens a token averages.
        temperature: of the softmax over those.
        device: where to extract and propagate.
        num_workers: threads that read and resize frames.
        progress: whether to show a progress bar.
        latency_pairs: pairs of calls timed a method.
        latency_budget: seconds after which no further pair is begun.
        num_pictures: sequences shown in pictures, spread from the largest loss to the largest gain.

    Returns:
        The rows and what they say.

    Raises:
        FileNotFoundError: If the DAVIS root, the split or a file of a sequence is missing.
        ValueError: If there are fewer than two methods, names clash or are unknown, or a sequence is unusable.
        PermissionError: If the output folder cannot be written to. All of these before any work starts.
    """
    reference = check_methods(methods, reference, ensemble)
    names = list_sequences(data, split, year) if sequences is None else sequences
    videos = open_videos(data, names)
    require_writable(output)
    results = {
        method.name: evaluate_davis(
            method.extract,
            data,
            output / method.folder_name,
            mean=mean,
            std=std,
            fingerprint=method.fingerprint,
            output_shifts=method.output_shifts,
            split=split,
            year=year,
            sequences=names,
            scale=scale,
            size_multiple=size_multiple,
            num_context_frames=num_context_frames,
            window_radius=window_radius,
            top_k=top_k,
            temperature=temperature,
            device=device,
            num_workers=num_workers,
            progress=progress,
        )
        for method in methods
    }

    def prepare(method: Method, video: Video, index: int) -> Float[Tensor, "1 3 H W"]:
        settings = results[method.name].settings
        size = network_size(video.size, settings["patch"], scale, size_multiple)
        return prepare_frame(read_frame(video.frames[index]), size, mean, std)[None].to(device)

    inputs = {method.name: prepare(method, videos[0], 0) for method in methods}
    rows = _time_methods(methods, results, inputs, reference, latency_pairs, latency_budget)
    settings = {
        "split": split,
        "year": year,
        "sequences": [video.name for video in videos],
        "num_frames": sum(len(video.frames) for video in videos),
        "scale": scale,
        "timed_image": list(inputs[reference].shape[-2:]),
        "device": name_device(device),
        "torch": torch.__version__,
    }
    comparison = Comparison(rows, reference, ensemble, settings)
    write_file(output / "results.json", json.dumps(comparison.to_dict(), indent=1))
    write_file(output / "results.md", render_markdown(comparison))
    pictures = draw_pictures(comparison, methods, videos, output, prepare, num_pictures)
    write_file(output / "report.html", render_html(comparison, methods, videos, output, pictures))
    return comparison


def name_device(device: torch.device) -> str:
    """What a table calls the machine: the accelerator's name, or the processor's kind and the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU ({platform.machine()}, threads: {torch.get_num_threads()})"
    return device.type


def _time_methods(
    methods: Sequence[Method],
    results: dict[str, DavisResult],
    inputs: dict[str, Float[Tensor, "1 3 H W"]],
    reference: str,
    max_pairs: int,
    budget: float,
) -> tuple[Row, ...]:
    """Times every method against the reference, and makes the rows."""
    base = next(method for method in methods if method.name == reference)
    latencies = {
        method.name: measure_latency(
            method.extract,
            inputs[method.name],
            base.extract,
            inputs[reference],
            max_pairs=max_pairs,
            budget=budget,
        )
        for method in methods
        if method is not base
    }
    # of the reference's medians the one from most pairs: it is timed again beside every other method
    steadiest = max(latencies.values(), key=lambda latency: latency.num_pairs)
    return tuple(
        Row(
            method.name,
            method.passes,
            method.num_parameters,
            results[method.name],
            latency := latencies.get(method.name),
            latency.seconds if latency else steadiest.reference_seconds,
        )
        for method in methods
    )
