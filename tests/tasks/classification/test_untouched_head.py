"""The untouched classifier: agreement, top-1, and what it needs to know of classes."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import binom

from srt_distill.tasks.classification import UntouchedHead
from srt_distill.tasks.classification.mcnemar import mcnemar
from srt_distill.tasks.example_instances import write_instances
from tests.tasks.made_candidates import judge_all, made_candidate


def reddest(prefix):
    """Three classes by the mean of red, green and blue."""
    return prefix[:, :3] * 10


@pytest.fixture
def photographs(tmp_path):
    write_instances(tmp_path / "photographs", ("", ""))
    return tmp_path / "photographs"


def head(root):
    return UntouchedHead(root, resize=None, crop=None)


def test_without_labels_there_is_agreement_alone(tmp_path):
    task = UntouchedHead.example(tmp_path / "flat")
    candidate = made_candidate(classify=reddest)
    reference = list(judge_all(task, candidate, tmp_path).values())
    assert len(reference) == 6 and math.isnan(task.pool(reference)["top-1"])
    assert task.relate(reference, reference) == {"agreement": 1}
    other = list(judge_all(task, replace(candidate, classify=lambda x: -reddest(x)), tmp_path).values())
    assert task.relate(other, reference) == {"agreement": 0}
    mixed = [*reference[:4], *other[4:]]
    assert task.relate(mixed, reference) == {"agreement": pytest.approx(4 / 6)}


def test_top_1_counts_the_classes_that_are_right(photographs, tmp_path):
    (photographs / "classes.txt").write_text("ruby\njade\namber\n")  # amber is red first: called ruby
    task = head(photographs)
    outcomes = list(judge_all(task, made_candidate(classify=reddest), tmp_path).values())
    assert task.pool(outcomes)["top-1"] == pytest.approx(4 / 6)
    assert {o.numbers["predicted"] for o in outcomes} == {0, 1}
    zero = list(judge_all(task, made_candidate(classify=reddest, radius=0), tmp_path).values())
    assert [o.numbers for o in zero] == [o.numbers for o in outcomes]


def test_probabilities_are_those_of_the_softmax(photographs, tmp_path):
    task, candidate = head(photographs), made_candidate(classify=reddest)
    item, outcome = next(iter(judge_all(task, candidate, tmp_path).items()))
    (prefix,) = candidate.maps_at(task.view(candidate, item), ("-1:prefix",))
    assert outcome.numbers["probability"] == pytest.approx(reddest(prefix.flatten(1)).softmax(1).max().item(), rel=1e-5)


@pytest.mark.parametrize("classes", ["ruby\njade\namber\nonyx\n", "ruby\njade\namber\n"])
def test_classes_must_be_the_classifiers(photographs, classes):
    (photographs / "classes.txt").write_text(classes)
    num = len(classes.split())
    if num == 3:
        head(photographs).prepare(made_candidate(classify=reddest))
        return
    with pytest.raises(ValueError, match=r"knows 3 classes, .* has 4; write its classes in order into .*classes.txt"):
        head(photographs).prepare(made_candidate(classify=reddest))


def test_a_candidate_without_classifier_is_refused(photographs):
    with pytest.raises(ValueError, match="cells has no classifier"):
        head(photographs).prepare(made_candidate())


def test_pictures_are_framed_by_who_is_right(photographs, tmp_path):
    task = head(photographs)
    outcomes = judge_all(task, made_candidate(classify=reddest), tmp_path)
    item, outcome = next((i, o) for i, o in outcomes.items() if i.name.startswith("ruby"))
    ((caption, pictures),) = task.draw(item, {"cells": outcome}, {}).rows
    assert caption.startswith("ruby; cells: ") and pictures["cells"][0, 0].tolist() == [204, 62, 54]
    assert torch.equal(torch.from_numpy(pictures["image"]), task.view(made_candidate(), item)[0].permute(1, 2, 0))


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (7, 2), (3, 3), (0, 12)])
def test_mcnemar_is_the_binomial_tail_twice(gained, lost):
    ours = [True] * gained + [False] * lost + [True, False]
    theirs = [False] * gained + [True] * lost + [True, False]
    found = mcnemar(ours, theirs)
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p_value == pytest.approx(min(1, 2 * binom.cdf(min(gained, lost), gained + lost, 0.5)))


def test_mcnemar_wants_the_same_images():
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        mcnemar([True, False], [True])
