"""Features of an image are extracted once, whoever asks."""

import torch

from srt_distill.comparison.feature_memory import FeatureMemory
from srt_distill.images import IMAGENET
from srt_distill.tasks import Candidate


def count_calls(calls, name, factor):
    def extract(images):
        calls.append(name)
        return (factor * torch.nn.functional.avg_pool2d(images, 8),)

    return extract


def candidate_with(calls, **options):
    chosen = count_calls(calls, "chosen", 1)
    return Candidate("c", chosen, IMAGENET, read=lambda layers, norm: count_calls(calls, layers, 2), **options)


def test_an_image_costs_one_pass_per_candidate_and_choice_of_layers(generator):
    images, others = torch.randint(0, 256, (2, 1, 3, 16, 24), dtype=torch.uint8, generator=generator)
    memory, calls = FeatureMemory(), []
    plain, candidate = candidate_with([]), memory.attach(candidate_with(calls))
    for _ in range(2):
        assert torch.equal(candidate.maps(images)[0], plain.maps(images)[0])
        assert torch.equal(candidate.maps_at(images, (3,))[0], plain.maps_at(images, (3,))[0])
    assert calls == ["chosen", (3,)]
    candidate.maps(others), candidate.maps_at(images, (3,), norm=False)
    memory.attach(candidate_with(calls)).maps(images)
    assert calls == ["chosen", (3,), "chosen", (3,), "chosen"]


def test_the_least_recently_used_gives_way(generator):
    images = torch.randint(0, 256, (3, 1, 3, 16, 24), dtype=torch.uint8, generator=generator)
    calls = []
    candidate = FeatureMemory(limit=2 * 3 * 6 * 4).attach(candidate_with(calls))  # two maps of 3x2x3 floats
    for index in (0, 1, 0, 2, 0, 1):
        candidate.maps(images[index])
    assert len(calls) == 4


def test_a_candidate_of_chosen_features_only_stays_one():
    assert FeatureMemory().attach(Candidate("c", lambda images: (images,), IMAGENET)).read is None
