"""Masks on disk: written as palette PNGs, and scored, whoever made them.

Shape legend: H W pixels.
"""

import io
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from srt_distill.files import write_file
from srt_distill.tasks.davis.sequence_scores import Statistics, score_sequence
from srt_distill.tasks.davis.videos import Video, list_sequences, open_videos, read_mask
from srt_distill.visualization.overlays import object_palette


def write_mask(path: Path, ids: UInt8[np.ndarray, "H W"]) -> None:
    """Write object ids as a palette PNG, whole or not at all."""
    image = Image.fromarray(ids)
    image.putpalette(object_palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_file(path, buffer.getvalue())


def score_masks(
    predictions: Path,
    root: Path,
    *,
    split: str = "val",
    year: str = "2017",
    sequences: Sequence[str] | None = None,
    num_processes: int = 1,
) -> dict[str, dict[int, tuple[Statistics, Statistics]]]:
    """Score masks on disk, whoever made them; writes nothing.

    Args:
        predictions: Folder of `<sequence>/00000.png`, one for every frame but the first and the last, which may lack.
        root: The DAVIS folder with the ground truth.
        split: Name of the list under `ImageSets/<year>`.
        year: Which lists.
        sequences: Names to score instead of the whole split.
        num_processes: Sequences scored at a time.

    Returns:
        By sequence and object id, statistics of J and F; `srt_distill.tasks.davis.sequence_scores.pool` averages them.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a prediction differs in size or holds an id that the first ground-truth mask lacks.
    """
    videos = open_videos(root, list_sequences(root, split, year) if sequences is None else sequences)
    score = partial(_score_folder, predictions)
    if num_processes == 1:
        scores = [score(video) for video in videos]
    else:
        with ProcessPoolExecutor(num_processes, mp_context=get_context("spawn")) as processes:
            scores = list(processes.map(score, videos))
    return {video.name: scored for video, scored in zip(videos, scores, strict=True)}


def _score_folder(predictions: Path, video: Video) -> dict[int, tuple[Statistics, Statistics]]:
    """Score the masks of one sequence."""
    files = [predictions / video.name / path.name for path in video.masks[1:-1]]
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(
                f"no predicted mask {path}; all frames but the first and the last need one, named like the ground truth"
            )
    truth = np.stack([read_mask(path) for path in video.masks])
    predicted = np.zeros_like(truth)
    for index, path in enumerate(files, start=1):
        mask = read_mask(path)
        if mask.shape != video.size:
            raise ValueError(
                f"predicted mask {path} is {mask.shape[1]}x{mask.shape[0]} pixels, the "
                f"ground truth {video.size[1]}x{video.size[0]}; resize predictions to the original size"
            )
        predicted[index] = mask
    return score_sequence(truth, predicted)
