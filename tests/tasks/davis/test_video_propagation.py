"""Propagation through whole videos: order, patch sides, sizes."""

import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from srt_distill.images import Normalization
from srt_distill.tasks import Candidate, Davis
from srt_distill.tasks.davis import video_propagation
from srt_distill.tasks.davis.label_propagation import harden_labels
from srt_distill.tasks.davis.video_propagation import NUM_PENDING, infer_patch, propagate_video

HALF = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def mean_colours(patch: int):
    """Extractor of two maps: noise, and the mean colour of each patch."""

    def extract(images: Tensor) -> tuple[Tensor, ...]:
        if images.shape[2] % patch or images.shape[3] % patch:
            raise ValueError(f"image of {images.shape[2]}x{images.shape[3]} pixels does not fit patch {patch}")
        colours = F.avg_pool2d(images, patch)
        return torch.randn_like(colours), colours

    return extract


def candidate(extract) -> Candidate:
    return Candidate("colours", extract, HALF)


def judge(extract, root, folder, patch=None, sequence="cats", **options):
    """Numbers and pooled scores of one video."""
    found, task = candidate(extract), Davis(root, sequences=(sequence,), **options)
    (item,) = task.items()
    prepared = {"patch": torch.tensor(patch)} if patch else task.prepare(found)
    outcome = task.judge(found, prepared, item, folder)
    return outcome.numbers, task.pool([outcome])


def test_patch_is_found_out() -> None:
    assert [infer_patch(candidate(mean_colours(patch))) for patch in (8, 14, 16, 32)] == [8, 14, 16, 32]
    with pytest.raises(ValueError, match=r"patch side of colours cannot be found.*224x224"):
        infer_patch(candidate(mean_colours(12)))


@pytest.mark.parametrize(("patch", "size"), [(4, [64, 96]), (8, [64, 96]), (14, [70, 98]), (12, [60, 84])])
def test_any_patch_side_runs(tiny_davis, tmp_path, patch, size) -> None:
    numbers, scores = judge(mean_colours(patch), tiny_davis, tmp_path, patch, scale=64 / 480, size_multiple=4)
    assert numbers["input_size"] == size
    assert len(numbers["objects"]) == 2
    assert scores["J-Mean"] > 0.3  # noise and constant features stay below .12


def test_finer_patches_of_exact_colours_score_better(tiny_davis, tmp_path) -> None:
    fine, coarse = (
        judge(mean_colours(p), tiny_davis, tmp_path / str(p), scale=64 / 480, size_multiple=16)[1] for p in (4, 16)
    )
    assert fine["J&F-Mean"] > coarse["J&F-Mean"] + 0.05


def test_a_wrong_patch_is_named(tiny_davis, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"8x12 tokens of an image of 64x96 pixels.*patch side of 16"):
        judge(mean_colours(8), tiny_davis, tmp_path, 16, scale=64 / 480, size_multiple=16)


def frames_and_mask(num_frames, generator):
    images = [torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8, generator=generator) for _ in range(num_frames)]
    mask = np.zeros((64, 96), dtype=np.uint8)
    mask[16:40, 20:60], mask[50:, :20], mask[0, 0] = 1, 2, 255
    return images, mask


def test_masks_come_in_order_when_propagation_lags_behind(generator: torch.Generator) -> None:
    num_frames = NUM_PENDING + 10
    images, mask = frames_and_mask(num_frames, generator)
    all_masks = list(propagate_video(candidate(mean_colours(8)), images, mask, 8))
    assert len(all_masks) == num_frames - 1
    assert np.stack(all_masks).max() <= 2  # void is no object
    for count in (2, 7):
        some = list(propagate_video(candidate(mean_colours(8)), images[:count], mask, 8))
        np.testing.assert_array_equal(np.stack(some), np.stack(all_masks[: count - 1]))


def test_frames_are_extracted_while_earlier_ones_are_propagated(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_frames = NUM_PENDING
    images, mask = frames_and_mask(num_frames, generator)
    expected = list(propagate_video(candidate(mean_colours(8)), images, mask, 8))
    last_seen, waited, calls = threading.Event(), [], []

    def extract(batch: Tensor) -> tuple[Tensor, ...]:
        calls.append(1)
        if len(calls) == num_frames:
            last_seen.set()
        return mean_colours(8)(batch)

    def slow_harden(soft: Tensor, patch: int) -> Tensor:
        waited.append(last_seen.wait(20))
        return harden_labels(soft, patch)

    monkeypatch.setattr(video_propagation, "harden_labels", slow_harden)
    found = list(propagate_video(candidate(extract), images, mask, 8))
    assert waited and all(waited)  # propagation stood still until the last frame was extracted
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_an_error_in_the_extractor_ends_the_run(tiny_davis, tmp_path) -> None:
    calls = []

    def breaks(images: Tensor) -> tuple[Tensor, ...]:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return mean_colours(8)(images)

    with pytest.raises(RuntimeError, match="out of memory"):
        judge(breaks, tiny_davis, tmp_path, 8, scale=64 / 480)


def test_the_callers_autocast_reaches_the_extractor(tiny_davis, tmp_path) -> None:
    seen = set()

    def extract(images: Tensor) -> tuple[Tensor, ...]:
        seen.add(torch.is_autocast_enabled("cpu"))
        return mean_colours(8)(images)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        judge(extract, tiny_davis, tmp_path, 8, scale=64 / 480)
    assert seen == {True}


def test_a_real_video_runs(shared_data, tmp_path) -> None:
    options = {"sequence": "car-shadow", "num_frames": 6, "scale": 0.5}
    numbers, scores = judge(mean_colours(16), shared_data / "DAVIS", tmp_path, 16, **options)
    assert numbers["input_size"] == [240, 384]
    assert scores["J-Mean"] > 0.3  # colour alone finds most of a dark car on a bright street
