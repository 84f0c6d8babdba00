"""Label propagation through a whole video: a candidate in, masks out, nothing written.

Shape legend: C channels, H W pixels of the video, rows columns pixels of the network's input, h w tokens, p patch side.

Propagation runs in a thread behind the extraction. Extraction itself stays in the caller's thread, so that the caller's
autocast and device context hold.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from srt_distill.extractor import strides
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.davis.label_propagation import PropagationOptions, harden_labels
from srt_distill.tasks.davis.output_ensemble import OutputEnsemble
from srt_distill.tasks.davis.sequence_scores import object_ids

PROBE_SIDE = 224  # pixels: a multiple of patch sides 7, 8, 14, 16, 28 and 32
NUM_PENDING = 4  # frames that propagation may lag behind extraction


@lru_cache(maxsize=16)
def infer_patch(candidate: Candidate) -> int:
    """Find out the pixels per token of a candidate's last map, with one black image.

    Raises:
        ValueError: If the candidate does not take that image.
    """
    probe = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, dtype=torch.uint8)
    try:
        return strides(probe, candidate.maps(probe))[-1]
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"the patch side of {candidate.name} cannot be found: it does not take an image of "
            f"{PROBE_SIDE}x{PROBE_SIDE} pixels ({error}); choose a model or layer that does"
        ) from error


def propagate_video(
    candidate: Candidate,
    images: Iterable[UInt8[Tensor, "3 rows columns"]],
    first_mask: UInt8[np.ndarray, "H W"],
    patch: int,
    options: PropagationOptions = PropagationOptions(),
) -> Iterator[UInt8[np.ndarray, "H W"]]:
    """Carry the first mask of a video through it.

    Args:
        candidate: Its last map is used, or as many as it has `output_shifts`, each of which propagates by itself.
        images: Frames of one size as bytes, the first included.
        first_mask: Object ids in the first frame; void counts as background.
        patch: p of the candidate.
        options: How labels are carried.

    Yields:
        Masks of the second frame and all later ones, at the size and with the ids of the first mask.

    Raises:
        ValueError: If the map is not the image divided by the patch side.
    """
    ids = np.array([0, *object_ids(first_mask)], dtype=np.uint8)
    labels_of = np.zeros(256, dtype=np.uint8)
    labels_of[ids] = np.arange(len(ids))
    num_views = len(candidate.output_shifts)

    @torch.inference_mode()
    def follow(propagator: OutputEnsemble, views: list[Tensor]) -> np.ndarray:
        labels = harden_labels(propagator.step(views), patch).cpu().numpy()
        size = first_mask.shape[1], first_mask.shape[0]
        return ids[np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))]

    propagator: OutputEnsemble | None = None
    pending: deque[Future] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="propagate") as thread:
        for image in images:
            while len(pending) > NUM_PENDING:
                yield pending.popleft().result()
            views = [maps[0] for maps in candidate.maps(image[None])[-num_views:]]
            _check_grid(views[-1], image, patch)
            if propagator is None:
                with torch.inference_mode():
                    propagator = OutputEnsemble(views, labels_of[first_mask], candidate.output_shifts, patch, options)
            else:
                pending.append(thread.submit(follow, propagator, views))
        while pending:
            yield pending.popleft().result()


def _check_grid(features: Tensor, image: Tensor, patch: int) -> None:
    if (features.shape[1] * patch, features.shape[2] * patch) != tuple(image.shape[1:]):
        raise ValueError(
            f"the extractor made {features.shape[1]}x{features.shape[2]} tokens of an image of "
            f"{image.shape[1]}x{image.shape[2]} pixels, which is not a patch side of {patch}; correct patch"
        )
