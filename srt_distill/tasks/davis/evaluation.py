"""DAVIS-2017 semi-supervised evaluation: of an extractor, by label propagation, and of masks on disk.

Shape legend: H W pixels of a video, p patch side in pixels.

The protocol is the one of DINO (Caron et al., 2021, eval_video_segmentation), which the SRT paper follows (Section 4).
"""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from srt_distill.ensemble.shifts import Shift
from srt_distill.extractor import Extractor
from srt_distill.files import require_writable, write_file
from srt_distill.tasks.davis.output_ensemble import UNSHIFTED
from srt_distill.tasks.davis.result_files import (
    FINISHED,
    DavisResult,
    SequenceResult,
    read_finished,
    settings_digest,
    write_finished,
    write_mask,
    write_tables,
)
from srt_distill.tasks.davis.video_propagation import evaluate_video, infer_patch, score_video
from srt_distill.tasks.davis.videos import Video, list_sequences, open_videos, read_mask

DAVIS_MEAN = (0.485, 0.456, 0.406)  # DINO's evaluation script
DAVIS_STD = (0.228, 0.224, 0.225)  # sic, DINO's evaluation script; ImageNet's own first value is 0.229


def evaluate_davis(
    extract: Extractor,
    data: Path,
    output: Path,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    fingerprint: Mapping[str, Any],
    split: str = "val",
    year: str = "2017",
    sequences: Sequence[str] | None = None,
    patch: int | None = None,
    output_shifts: Sequence[Shift] = UNSHIFTED,
    scale: float = 1.0,
    size_multiple: int = 64,
    num_context_frames: int = 7,
    window_radius: int | None = 12,
    top_k: int = 5,
    temperature: float = 0.1,
    device: torch.device,
    num_workers: int = 2,
    progress: bool = True,
) -> DavisResult:
    """Evaluate an extractor on DAVIS and write masks, the two official tables and `results.json`.

    A sequence finished under the same settings, features and files is not computed again; one under others is. The
    tables cover the sequences of this call.

    Args:
        extract: The features to judge; its last map is used, or the last ones.
        data: The DAVIS folder.
        output: Where results go: `<sequence>/00000.png` and the tables.
        mean: Per channel, what the extractor's images are normalised with; DINO's script: `DAVIS_MEAN`.
        std: Per channel; DINO's script: `DAVIS_STD`.
        fingerprint: What tells these features from others (a hash of the weights, shift radius, layer, dtype ...) as
            plain data; goes into the settings that decide whether a sequence is finished.
        split: Name of the list under `ImageSets/<year>`.
        year: Which lists.
        sequences: Names to evaluate instead of the whole split.
        patch: Patch side of the extractor; None finds it out.
        output_shifts: Shifts of the extractor's last maps: each propagates by itself, and soft labels are averaged (an
            ensemble of outputs, see `srt_distill.tasks.davis.output_ensemble`). By default one, without a shift.
        scale: Factor on the short side of 480 pixels.
        size_multiple: What the long side is cut down to a multiple of.
        num_context_frames: Previous frames to look at besides the first.
        window_radius: Half side of the window in tokens, itself left out; None looks everywhere.
        top_k: How many context tokens a token averages.
        temperature: Of the softmax over those.
        device: Where to extract and propagate.
        num_workers: Threads that read and resize frames.
        progress: Whether to show a progress bar.

    Raises:
        FileNotFoundError: If the root, the split or a file of a sequence is missing.
        ValueError: If a sequence is unusable, see `open_video`.
        PermissionError: If the output folder cannot be written to. All of these before any work starts.
    """
    names = list_sequences(data, split, year) if sequences is None else sequences
    videos = open_videos(data, names)
    require_writable(output)
    patch = patch or infer_patch(extract, device)
    propagation = {
        "patch": patch,
        "scale": scale,
        "size_multiple": size_multiple,
        "num_context_frames": num_context_frames,
        "window_radius": window_radius,
        "top_k": top_k,
        "temperature": temperature,
    }
    settings = {"fingerprint": dict(fingerprint), "mean": list(mean), "std": list(std), **propagation}
    if tuple(output_shifts) != UNSHIFTED:  # the plain protocol's finished sequences stay finished
        settings["output_shifts"] = [list(shift) for shift in output_shifts]
    evaluate = partial(
        evaluate_video,
        extract,
        mean=mean,
        std=std,
        output_shifts=output_shifts,
        device=device,
        num_workers=num_workers,
        **propagation,
    )
    results = []
    with tqdm(total=sum(len(video.frames) for video in videos), unit="frame", disable=not progress) as bar:
        for video in videos:
            bar.set_description(video.name)
            folder = output / video.name
            digest = settings_digest({**settings, "files": video.digest()})
            result = read_finished(folder, digest, [path.name for path in video.masks])
            if result is None:
                result = _evaluate_into(folder, evaluate, video, bar)
                write_finished(folder, digest, result)
            else:
                bar.update(len(video.frames))
            results.append(result)
    return _write_result(output, split, DavisResult(settings, tuple(results)))


def _evaluate_into(folder: Path, evaluate: Callable[..., SequenceResult], video: Video, bar: tqdm) -> SequenceResult:
    """Evaluate a video and write its masks, in a thread beside the work; they are all on disk on return.

    A mask that cannot be written ends the evaluation at the next frame, not after the last.
    """
    (folder / FINISHED).unlink(missing_ok=True)  # masks about to be replaced must not pass for finished
    with ThreadPoolExecutor(1, thread_name_prefix="write") as thread:
        writing: deque[Future] = deque()

        def keep(path: Path, ids: np.ndarray) -> None:
            while writing and writing[0].done():
                writing.popleft().result()
            writing.append(thread.submit(write_mask, folder / path.name, ids))
            bar.update()

        result = evaluate(video, on_mask=keep)
        for future in writing:
            future.result()
    return result


def _write_result(output: Path, split: str, result: DavisResult) -> DavisResult:
    write_tables(output, split, result)
    write_file(output / "results.json", json.dumps(result.to_dict(), indent=1))
    return result


def score_davis(
    predictions: Path,
    data: Path,
    *,
    split: str = "val",
    year: str = "2017",
    sequences: Sequence[str] | None = None,
    num_processes: int = 1,
) -> DavisResult:
    """Score masks on disk, whoever made them; writes nothing.

    Args:
        predictions: Folder of `<sequence>/00000.png`, one for every frame but the first and the last, which may lack.
        data: The DAVIS folder with the ground truth.
        split: Name of the list under `ImageSets/<year>`.
        year: Which lists.
        sequences: Names to score instead of the whole split.
        num_processes: Sequences scored at a time.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a prediction differs in size or holds an id that the first ground-truth mask lacks.
    """
    videos = open_videos(data, list_sequences(data, split, year) if sequences is None else sequences)
    score = partial(_score_folder, predictions)
    if num_processes == 1:
        results = [score(video) for video in videos]
    else:
        with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as processes:
            results = list(processes.map(score, videos))
    return DavisResult({"predictions": str(predictions)}, tuple(results))


def _score_folder(predictions: Path, video: Video) -> SequenceResult:
    """Score the masks of one sequence on disk."""
    truth = np.stack([read_mask(path) for path in video.masks])
    predicted = np.zeros_like(truth)
    for index, path in enumerate(video.masks[1:-1], start=1):
        mask = read_mask(predictions / video.name / path.name)
        if mask.shape != video.size:
            raise ValueError(
                f"predicted mask {predictions / video.name / path.name} is {mask.shape[1]}x{mask.shape[0]} pixels, the "
                f"ground truth {video.size[1]}x{video.size[0]}; resize predictions to the original size"
            )
        predicted[index] = mask
    return score_video(video, truth, predicted, None, None)
