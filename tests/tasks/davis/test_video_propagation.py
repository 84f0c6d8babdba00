"""Propagation through whole videos: order, patch sides, sizes, and that nothing is written."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from srt_distill.evaluation import video_propagation
from torch import Tensor

from srt_distill.tasks.davis.label_propagation import harden_labels
from srt_distill.tasks.davis.video_propagation import (
    NUM_PENDING,
    NUM_TIMED_FRAMES,
    evaluate_video,
    infer_patch,
    propagate_video,
)
from srt_distill.tasks.davis.videos import Video, open_video

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def mean_colours(patch: int):
    """Extractor of two maps: noise, and the mean colour of each patch."""

    def extract(images: Tensor) -> tuple[Tensor, ...]:
        if images.shape[2] % patch or images.shape[3] % patch:
            raise ValueError(f"image of {images.shape[2]}x{images.shape[3]} pixels does not fit patch {patch}")
        colours = F.avg_pool2d(images, patch)
        return torch.randn_like(colours), colours

    return extract


def test_patch_is_found_out() -> None:
    assert [infer_patch(mean_colours(patch), CPU) for patch in (8, 14, 16, 32)] == [8, 14, 16, 32]
    with pytest.raises(ValueError, match=r"cannot find the patch side.*pass patch=\.\.\."):
        infer_patch(mean_colours(12), CPU)


@pytest.mark.parametrize(("patch", "size"), [(4, (64, 96)), (8, (64, 96)), (14, (70, 98)), (12, (60, 84))])
def test_any_patch_side_runs(tiny_davis: Path, patch: int, size: tuple[int, int]) -> None:
    result = evaluate_video(
        mean_colours(patch),
        open_video(tiny_davis, "cats"),
        mean=MEAN,
        std=STD,
        patch=patch,
        scale=64 / 480,
        size_multiple=4,
        device=CPU,
    )
    assert result.input_size == size
    assert len(result.objects) == 2
    assert result.scores["J-Mean"] > 0.3  # noise and constant features stay below .12
    assert result.seconds_per_frame is not None
    assert result.seconds_per_frame > 0


def test_finer_patches_of_exact_colours_score_better(tiny_davis: Path) -> None:
    video = open_video(tiny_davis, "cats")
    fine, coarse = (
        evaluate_video(mean_colours(p), video, mean=MEAN, std=STD, scale=64 / 480, size_multiple=16, device=CPU)
        for p in (4, 16)
    )
    assert fine.scores["J&F-Mean"] > coarse.scores["J&F-Mean"] + 0.05


def test_a_wrong_patch_is_named(tiny_davis: Path) -> None:
    with pytest.raises(ValueError, match=r"8x12 tokens of an image of 64x96 pixels.*patch side of 16"):
        evaluate_video(
            mean_colours(8),
            open_video(tiny_davis, "cats"),
            mean=MEAN,
            std=STD,
            patch=16,
            scale=64 / 480,
            size_multiple=16,
            device=CPU,
        )


def test_nothing_is_written_and_every_mask_is_handed_out(tiny_davis: Path) -> None:
    before = sorted(tiny_davis.rglob("*"))
    handed: list[tuple[str, np.ndarray]] = []
    evaluate_video(
        mean_colours(8),
        open_video(tiny_davis, "dogs"),
        mean=MEAN,
        std=STD,
        scale=64 / 480,
        size_multiple=16,
        device=CPU,
        on_mask=lambda path, ids: handed.append((path.name, ids)),
    )
    assert sorted(tiny_davis.rglob("*")) == before
    assert [name for name, _ in handed] == [f"{t:05d}.png" for t in range(5)]
    assert all(ids.shape == (64, 96) and ids.dtype == np.uint8 for _, ids in handed)


def test_masks_come_in_order_when_propagation_lags_behind(generator: torch.Generator) -> None:
    num_frames = NUM_TIMED_FRAMES + NUM_PENDING + 6
    images = [torch.randn(3, 32, 48, generator=generator) for _ in range(num_frames)]
    mask = np.zeros((64, 96), dtype=np.uint8)
    mask[16:40, 20:60], mask[50:, :20], mask[0, 0] = 1, 2, 255
    all_masks = list(propagate_video(mean_colours(8), images, mask, patch=8, device=CPU))
    assert len(all_masks) == num_frames - 1
    assert np.stack(all_masks).max() <= 2  # void is no object
    for count in (2, NUM_TIMED_FRAMES + 2):
        some = list(propagate_video(mean_colours(8), images[:count], mask, patch=8, device=CPU))
        np.testing.assert_array_equal(np.stack(some), np.stack(all_masks[: count - 1]))


def test_frames_are_extracted_while_earlier_ones_are_propagated(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_frames = NUM_TIMED_FRAMES + 4
    images = [torch.randn(3, 32, 48, generator=generator) for _ in range(num_frames)]
    mask = np.zeros((64, 96), dtype=np.uint8)
    mask[16:40, 20:60] = 1
    expected = list(propagate_video(mean_colours(8), images, mask, patch=8, device=CPU))
    last_seen, waited, calls = threading.Event(), [], []

    def extract(batch: Tensor) -> tuple[Tensor, ...]:
        calls.append(1)
        if len(calls) == num_frames:
            last_seen.set()
        return mean_colours(8)(batch)

    def slow_harden(soft: Tensor, patch: int) -> Tensor:
        if len(calls) > NUM_TIMED_FRAMES + 1:
            waited.append(last_seen.wait(20))
        return harden_labels(soft, patch)

    monkeypatch.setattr(video_propagation, "harden_labels", slow_harden)
    found = list(propagate_video(extract, images, mask, patch=8, device=CPU))
    assert waited and all(waited)  # propagation stood still until the last frame was extracted
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def test_an_error_in_the_extractor_ends_the_run(tiny_davis: Path) -> None:
    calls = []

    def breaks(images: Tensor) -> tuple[Tensor, ...]:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return mean_colours(8)(images)

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate_video(breaks, open_video(tiny_davis, "cats"), mean=MEAN, std=STD, patch=8, scale=64 / 480, device=CPU)


def test_the_callers_autocast_reaches_the_extractor(tiny_davis: Path) -> None:
    seen = set()

    def extract(images: Tensor) -> tuple[Tensor, ...]:
        seen.add(torch.is_autocast_enabled("cpu"))
        return mean_colours(8)(images)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        evaluate_video(extract, open_video(tiny_davis, "cats"), mean=MEAN, std=STD, patch=8, scale=64 / 480, device=CPU)
    assert seen == {True}


def test_a_real_video_runs(shared_data: Path) -> None:
    video = open_video(shared_data / "DAVIS", "car-shadow")
    short = Video(video.name, video.frames[:6], video.masks[:6], video.size, video.num_objects)
    result = evaluate_video(mean_colours(16), short, mean=MEAN, std=STD, scale=0.5, device=CPU)
    assert result.input_size == (240, 384)
    assert result.scores["J-Mean"] > 0.3  # colour alone finds most of a dark car on a bright street
