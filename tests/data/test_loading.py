import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.data.crops import Crop, Draw
from srt_distill.data.loading import EpochSampler, collate_crops


def draws(num_images, batch_size=4, seed=0, num_processes=1, process=0, epoch=0, progress=None) -> list[Draw]:
    sampler = EpochSampler(range(num_images), batch_size, seed, num_processes, process, progress)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert progress or len(found) == len(sampler)
    return found


@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 4))
def test_an_epoch_visits_every_image_in_whole_batches_of_equal_number(num_images, batch_size, num_processes):
    dealt = [draws(num_images, batch_size, num_processes=num_processes, process=rank) for rank in range(num_processes)]
    assert len({len(part) for part in dealt}) == 1 and len(dealt[0]) % batch_size == 0
    visits = [draw for part in dealt for draw in part]
    assert {draw.position for draw in visits} == set(range(num_images))
    assert len(set(visits)) == len(visits) < num_images + batch_size * num_processes
    counts = np.bincount([draw.position for draw in visits])
    assert counts.max() - counts.min() <= 1


def test_processes_share_the_batches_one_process_would_see():
    alone = draws(64, batch_size=8)
    first, second = (draws(64, batch_size=4, num_processes=2, process=rank) for rank in range(2))
    for batch in range(8):
        together = {*first[4 * batch : 4 * batch + 4], *second[4 * batch : 4 * batch + 4]}
        assert together == set(alone[8 * batch : 8 * batch + 8])


def test_the_order_depends_on_seed_and_epoch_only():
    assert draws(30) == draws(30)
    orders = {tuple(draw.position for draw in draws(30, seed=s, epoch=e)) for s in range(3) for e in range(3)}
    assert len(orders) == 9
    assert all(draw.epoch == 2 for draw in draws(30, epoch=2))


@pytest.mark.parametrize("num_processes", [1, 2])
def test_resumed_epoch_goes_on_where_it_stopped(num_processes):
    for process in range(num_processes):
        share = {"num_processes": num_processes, "process": process}
        assert draws(30, progress=lambda: (5, 2), **share) == draws(30, epoch=5, **share)[2 * 4 :]


def test_progress_is_asked_when_the_first_image_is_wanted():
    asked = []
    iterator = iter(EpochSampler(range(8), 4, 0, 1, 0, lambda: asked.append(True) or (0, 1)))
    assert not asked
    next(iterator)
    assert asked


def test_what_could_not_be_read_travels_with_the_batch():
    crops = [Crop(torch.full((3, 2, 2), i, dtype=torch.uint8), {f"{i}.png": "damaged"} if i else {}) for i in range(3)]
    batch = collate_crops(crops)
    assert batch.pixels.shape == (3, 3, 2, 2) and batch.pixels.dtype == torch.uint8
    assert batch.unreadable == {"1.png": "damaged", "2.png": "damaged"}
