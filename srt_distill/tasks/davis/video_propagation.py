"""Label propagation through a whole video: extractor in, masks and scores out, nothing written.

Shape legend: T frames, C channels, H W pixels of the video, rows columns pixels of the network's input, h w tokens,
p patch side in pixels.

Reading and resizing run in threads before the extraction, propagation in a thread behind it. Extraction itself stays in
the caller's thread, so that the caller's autocast and device context hold.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from srt_distill.ensemble.shifts import Shift
from srt_distill.extractor import Extractor, strides
from srt_distill.latency import synchronize
from srt_distill.tasks.davis.label_propagation import harden_labels
from srt_distill.tasks.davis.output_ensemble import UNSHIFTED, OutputEnsemble
from srt_distill.tasks.davis.result_files import ObjectScores, SequenceResult
from srt_distill.tasks.davis.sequence_scores import VOID, score_sequence
from srt_distill.tasks.davis.videos import Video, network_size, prepare_frame, read_ahead, read_frame, read_mask

PROBE_SIDE = 224  # pixels: a multiple of patch sides 7, 8, 14, 16, 28 and 32
NUM_TIMED_FRAMES = 5  # extraction is timed on the second to the sixth frame, while propagation stands still
NUM_PENDING = 4  # frames that propagation may lag behind extraction


def infer_patch(extract: Extractor, device: torch.device) -> int:
    """Pixels per token of an extractor's last map, found out with one blank image.

    Raises:
        ValueError: If the extractor does not take that image.
    """
    probe = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, device=device)
    try:
        with torch.inference_mode():
            maps = extract(probe)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"cannot find the patch side from a {PROBE_SIDE}x{PROBE_SIDE} image ({error}); pass patch=..."
        ) from error
    return strides(probe, maps)[-1]


def propagate_video(
    extract: Extractor,
    images: Iterable[Float[Tensor, "3 rows columns"]],
    first_mask: UInt8[np.ndarray, "H W"],
    *,
    patch: int,
    output_shifts: Sequence[Shift] = UNSHIFTED,
    num_context_frames: int = 7,
    window_radius: int | None = 12,
    top_k: int = 5,
    temperature: float = 0.1,
    device: torch.device,
) -> Iterator[UInt8[np.ndarray, "H W"]]:
    """Masks of the second frame and all later ones, at the size of the first mask.

    Args:
        extract: Its last map is used, or the last ones; the first frames are taken in lock step with propagation, for
            undisturbed timing.
        images: Normalised frames of one size, the first included.
        first_mask: Object ids in the first frame; void counts as background.
        patch: Patch side of the extractor.
        output_shifts: Shifts of the extractor's last maps, each of which propagates by itself.
        num_context_frames: Previous frames to look at besides the first.
        window_radius: Half side of the window in tokens, itself left out; None looks everywhere.
        top_k: How many context tokens a token averages.
        temperature: Of the softmax over those.
        device: Where to extract and propagate.

    Raises:
        ValueError: If the map is not the image divided by the patch side.
    """
    ids = np.where(first_mask == VOID, 0, first_mask).astype(np.uint8)

    @torch.inference_mode()
    def follow(propagator: OutputEnsemble, views: list[Tensor]) -> np.ndarray:
        mask = harden_labels(propagator.step(views), patch).cpu().numpy()
        return np.array(Image.fromarray(mask).resize(ids.shape[::-1], Image.Resampling.NEAREST))

    propagator: OutputEnsemble | None = None
    pending: deque[Future] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="propagate") as thread:
        for index, image in enumerate(images):
            while len(pending) > (0 if index <= NUM_TIMED_FRAMES else NUM_PENDING):
                yield pending.popleft().result()
            batch = image[None].to(device, non_blocking=True)
            with torch.inference_mode():
                views = [maps[0] for maps in extract(batch)[-len(output_shifts) :]]
                features = views[-1]
                if features.shape[1] * patch != image.shape[1] or features.shape[2] * patch != image.shape[2]:
                    raise ValueError(
                        f"the extractor made {features.shape[1]}x{features.shape[2]} tokens of an image of "
                        f"{image.shape[1]}x{image.shape[2]} pixels, which is not a patch side of {patch}; correct patch"
                    )
                if propagator is None:
                    propagator = OutputEnsemble(
                        views,
                        ids,
                        output_shifts,
                        patch,
                        num_context_frames=num_context_frames,
                        window_radius=window_radius,
                        top_k=top_k,
                        temperature=temperature,
                    )
                    continue
            pending.append(thread.submit(follow, propagator, views))
        while pending:
            yield pending.popleft().result()


def evaluate_video(
    extract: Extractor,
    video: Video,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
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
    on_mask: Callable[[Path, np.ndarray], None] | None = None,
) -> SequenceResult:
    """Propagate the first mask of a video and score the result; writes nothing.

    Args:
        extract: The features to judge; its last map is used, or the last ones.
        video: From `open_video`.
        mean: Per channel, what the extractor's images are normalised with.
        std: Per channel.
        patch: Patch side of the extractor; None finds it out.
        output_shifts: Shifts of the extractor's last maps: each propagates by itself, and soft labels are averaged.
        scale: Factor on the short side of 480 pixels.
        size_multiple: What the long side is cut down to a multiple of.
        num_context_frames: Previous frames to look at besides the first.
        window_radius: Half side of the window in tokens, itself left out; None looks everywhere.
        top_k: How many context tokens a token averages.
        temperature: Of the softmax over those.
        device: Where to extract and propagate.
        num_workers: Threads that read and resize frames.
        on_mask: Called with the ground-truth path and the predicted ids of every frame, in order, the first included.
    """
    patch = patch or infer_patch(extract, device)
    input_size = network_size(video.size, patch, scale, size_multiple)
    truth = np.stack(list(read_ahead(read_mask, video.masks, num_workers)))
    durations: list[float] = []

    def prepare(path: Path) -> Tensor:
        return prepare_frame(read_frame(path), input_size, mean, std)

    def timed_extract(images: Tensor) -> tuple[Tensor, ...]:
        synchronize(device)
        start = time.perf_counter()
        maps = extract(images)
        synchronize(device)
        durations.append(time.perf_counter() - start)
        return maps

    def sometimes_timed_extract(images: Tensor) -> tuple[Tensor, ...]:
        return (timed_extract if len(durations) <= NUM_TIMED_FRAMES else extract)(images)

    predicted = np.empty_like(truth)
    predicted[0] = truth[0]
    masks = propagate_video(
        sometimes_timed_extract,
        read_ahead(prepare, video.frames, num_workers),
        truth[0],
        patch=patch,
        output_shifts=output_shifts,
        num_context_frames=num_context_frames,
        window_radius=window_radius,
        top_k=top_k,
        temperature=temperature,
        device=device,
    )
    if on_mask:
        on_mask(video.masks[0], truth[0])
    for index, mask in enumerate(masks, start=1):
        predicted[index] = mask
        if on_mask:
            on_mask(video.masks[index], mask)
    seconds = statistics.median(durations[1:])  # the first frame warms up
    return score_video(video, truth, predicted, input_size, seconds)


def score_video(
    video: Video,
    truth: UInt8[np.ndarray, "T H W"],
    predicted: UInt8[np.ndarray, "T H W"],
    input_size: tuple[int, int] | None,
    seconds_per_frame: float | None,
) -> SequenceResult:
    """Score masks of all frames of a video."""
    pairs = score_sequence(truth, predicted)
    objects = tuple(ObjectScores(object_id, j, f) for object_id, (j, f) in enumerate(pairs, start=1))
    return SequenceResult(video.name, len(truth), input_size, objects, seconds_per_frame)
