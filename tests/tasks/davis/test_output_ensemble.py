"""An ensemble of outputs: every shifted copy of a video propagates by itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srt_distill.ensemble.baselines import ShiftedViews
from srt_distill.ensemble.shifts import unshift_tokens
from srt_distill.images import Normalization
from srt_distill.tasks import Candidate, Davis
from srt_distill.tasks.davis.label_propagation import LabelPropagator, PropagationOptions, shrink_mask
from srt_distill.tasks.davis.output_ensemble import OutputEnsemble, shift_mask

OPTIONS = PropagationOptions(num_context_frames=2, window_radius=None, top_k=3)


@pytest.fixture
def frames(generator):
    return torch.randn(3, 5, 4, 6, generator=generator)  # T C h w


@pytest.fixture
def mask():
    ids = np.zeros((32, 48), np.uint8)
    ids[8:20, 10:30], ids[20:30, 30:44] = 1, 2
    return ids


def test_one_unshifted_view_is_the_plain_propagator_to_the_bit(frames, mask):
    ensemble = OutputEnsemble([frames[0]], mask, [(0, 0)], 8, OPTIONS)
    plain = LabelPropagator(frames[0], shrink_mask(mask, 3, (4, 6)), OPTIONS)
    for frame in frames[1:]:
        assert torch.equal(ensemble.step([frame]), plain.step(frame))


def test_outputs_are_moved_back_and_averaged(frames, mask):
    shifts = [(-3, 2), (0, 0)]
    views = [frames, frames.flip(1)]
    ensemble = OutputEnsemble([view[0] for view in views], mask, shifts, 8, OPTIONS)
    moved = np.pad(mask, 3, mode="edge")[6:38, 1:49]  # up by 3, right by 2
    first_masks = [moved, mask]
    plain = [LabelPropagator(v[0], shrink_mask(m, 3, (4, 6)), OPTIONS) for v, m in zip(views, first_masks)]
    for t in (1, 2):
        outputs = [p.step(view[t]) for p, view in zip(plain, views)]
        expected = (unshift_tokens(outputs[0][None], (-3, 2), 8)[0] + outputs[1]) / 2
        soft = ensemble.step([view[t] for view in views])
        torch.testing.assert_close(soft, expected)
        torch.testing.assert_close(soft.sum(0), torch.ones(4, 6))


def test_a_mask_moves_as_its_resized_frame_does(mask):
    half = shift_mask(mask, (1, -2), (16, 24))  # one pixel of a frame at half size is two of the video
    assert np.array_equal(half, np.pad(mask, 4, mode="edge")[2:34, 8:56])
    assert shift_mask(mask, (0, 0), (16, 24)) is not None and np.array_equal(shift_mask(mask, (0, 0), (7, 9)), mask)


def test_another_number_of_maps_than_of_shifts_is_refused(frames, mask):
    with pytest.raises(ValueError, match="1 maps for 2 shifts"):
        OutputEnsemble([frames[0]], mask, [(0, 0), (1, 0)], 8, OPTIONS)


def colours(images):
    cells = F.avg_pool2d(images, 8)
    return (torch.cat([cells, torch.ones_like(cells[:, :1])], 1),)


def test_a_whole_evaluation_by_output_ensemble(tiny_davis, tmp_path):
    task = Davis(tiny_davis, scale=0.2, size_multiple=8, sequences=("cats",))
    (item,) = task.items()

    def judge(extract, shifts=((0, 0),)):
        candidate = Candidate("colours", extract, Normalization((0.5,) * 3, (0.2,) * 3), output_shifts=tuple(shifts))
        return task.judge(candidate, task.prepare(candidate), item, tmp_path)

    single, radius_0, views = judge(colours), ShiftedViews(colours, 0), ShiftedViews(colours, 2)
    assert judge(radius_0, radius_0.shifts).numbers == single.numbers
    ensemble = judge(views, views.shifts)
    assert ensemble.numbers != single.numbers
    assert task.pool([ensemble])["J-Mean"] > 0.5
