"""Retrieval from folder to scores, in both layouts; what is refused before any work."""

import math
import pickle
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from srt_distill.tasks.descriptors import describe_at_scales
from srt_distill.tasks.retrieval import Retrieval, RevisitedRetrieval
from srt_distill.tasks.retrieval.folders import SCALES, read_thumbnail
from srt_distill.tasks.retrieval.revisited import Question, read_ground_truth, score_ranking
from tests.oracles import average_precision_by_curve
from tests.tasks.made_candidates import judge_all, made_candidate


@pytest.fixture
def instances(tmp_path):
    return Retrieval.example(tmp_path / "instances")


@pytest.fixture
def landmarks(tmp_path):
    return RevisitedRetrieval.example(tmp_path / "rexample")


def test_colours_find_their_class_and_every_number_is_the_literal_one(instances, tmp_path):
    candidate = made_candidate()
    outcomes = judge_all(instances, candidate, tmp_path)
    gallery = sorted((instances.root / "gallery").rglob("*.png"))
    vectors = [literal_vector(path) for path in gallery]
    assert len(outcomes) == 3
    for item, outcome in outcomes.items():
        (query,) = item.files
        similarity = [float(v @ literal_vector(query)) for v in vectors]
        ranking = sorted(range(len(gallery)), key=lambda i: (-similarity[i], i))
        positives = {i for i, path in enumerate(gallery) if path.parent.name == query.parent.name}
        assert outcome.numbers["mAP"] == pytest.approx(average_precision_by_curve(ranking, positives, set()))
        assert outcome.numbers["answers"] == [gallery[i].relative_to(instances.root).as_posix() for i in ranking[:5]]
    assert instances.pool(list(outcomes.values()))["Recall@1"] == 1


def literal_vector(path):
    """Mean colour, normalised by ImageNet's constants, its square's mean over cells, and one: of length 1."""
    pixels = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    cells = F.avg_pool2d((pixels - mean) / std, 8)
    return F.normalize(torch.cat([cells.mean((2, 3)), cells.square().mean((2, 3)), torch.ones(1, 1)], 1), dim=1)[0]


def test_every_image_asks_for_the_others_of_its_class(instances, tmp_path):
    task = Retrieval(instances.root / "gallery", image_size=64)
    outcomes = judge_all(task, made_candidate(), tmp_path)
    assert len(outcomes) == 6
    for item, outcome in outcomes.items():
        assert item.name not in outcome.numbers["answers"]  # the image itself is junk
        assert len(outcome.numbers["ranks"]) == 1


def test_a_class_of_one_image_asks_nothing_and_stays_in_the_gallery(instances, tmp_path):
    root = instances.root / "gallery"
    next((root / "ruby").iterdir()).unlink()
    task = Retrieval(root, image_size=64)
    assert {item.name.split("/")[0] for item in task.items()} == {"amber", "jade"}
    assert len(task.prepare(made_candidate())["gallery"]) == 5


def test_neighbouring_frames_of_a_video_do_not_count(instances, tmp_path):
    for index in range(3):
        shutil.copy(
            instances.root / "gallery/amber/amber_0.png", instances.root / f"gallery/amber/amber_{index + 4}.png"
        )
    near = Retrieval(instances.root / "gallery", image_size=64, neighbours=1)
    far = Retrieval(instances.root / "gallery", image_size=64)
    ranks = {
        task.neighbours: next(o for i, o in judge_all(task, made_candidate(), tmp_path).items() if "amber_4" in i.name)
        for task in (near, far)
    }
    assert len(ranks[0].numbers["ranks"]) == 4 and len(ranks[1].numbers["ranks"]) == 2


def test_averaging_over_scales_is_the_mean_of_each_scale_cut_to_patches():
    image = torch.randint(0, 255, (1, 3, 50, 70), dtype=torch.uint8)
    candidate = made_candidate()
    ours = describe_at_scales(candidate, image, "class", SCALES, 8)
    literal = []
    for scale in (1, 2**-0.5, 0.5):
        size = int(50 * scale), int(70 * scale)
        resized = F.interpolate(image.float(), scale_factor=scale, mode="bilinear") if scale != 1 else image.float()
        resized = resized[..., : size[0] // 8 * 8, : size[1] // 8 * 8]
        literal.append(candidate.maps_at(resized, ("-1:prefix",))[0].flatten(1)[:, :7])
    torch.testing.assert_close(ours, sum(literal) / 3)
    with pytest.raises(ValueError, match="no patch of 64 pixels at scale 0.707"):
        describe_at_scales(candidate, image[..., :64], "mean", (0.707,), 64)


def test_radius_zero_changes_no_score(instances, landmarks, tmp_path):
    for task in (instances, landmarks):
        plain, zero = (judge_all(task, made_candidate(radius=radius), tmp_path) for radius in (None, 0))
        assert [o.numbers for o in plain.values()] == [o.numbers for o in zero.values()]


def test_a_small_image_stays_as_it_is_and_a_large_one_shrinks(tmp_path):
    Image.new("RGB", (100, 60), (9, 8, 7)).save(tmp_path / "a.png")
    assert read_thumbnail(tmp_path / "a.png", 224).shape == (1, 3, 60, 100)
    assert read_thumbnail(tmp_path / "a.png", 50).shape == (1, 3, 30, 50)
    assert read_thumbnail(tmp_path / "a.png", 224, (10.2, 5.0, 50.6, 25.0)).shape == (1, 3, 20, 41)


def test_protocols_differ_in_what_is_right_and_what_is_junk():
    scores = score_ranking([0, 1, 2, 3, 4], Question("q", (0.0, 0.0, 1.0, 1.0), easy=(1,), hard=(3,), junk=(0,)))
    assert scores["mAP-Easy"] == 1  # 0 and 3 are junk: 1 comes first
    assert scores["mAP-Hard"] == 0.25  # 0 and 1 are junk: 2 is wrong, 3 second
    assert scores["mAP-Medium"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    nothing = score_ranking([0, 1], Question("q", (0.0, 0.0, 1.0, 1.0), easy=(1,), hard=(), junk=()))
    assert math.isnan(nothing["mAP-Hard"]) and math.isnan(nothing["mP@1-Hard"])


def test_revisited_data_goes_from_pickle_to_scores(landmarks, tmp_path):
    outcomes = judge_all(landmarks, made_candidate(), tmp_path)
    assert [item.name for item in outcomes] == ["arch_000003", "tower_000003"]
    scores = landmarks.pool(list(outcomes.values()))
    assert scores["mAP-Easy"] == 1 and set(scores) == {score.name for score in landmarks.info.scores}
    assert landmarks.info.name == "revisited-rexample"


def test_queries_are_cropped_unless_the_protocol_is_dinos(landmarks):
    item = landmarks.items()[0]
    assert landmarks.view(made_candidate(), item).shape == (1, 3, 32, 64)
    plain = RevisitedRetrieval(landmarks.root, crop_queries=False, image_size=96)
    assert plain.view(made_candidate(), item).shape == (1, 3, 64, 96)


@pytest.mark.parametrize("task", ["instances", "landmarks"])
def test_pictures_show_query_truth_and_answers(task, request, tmp_path):
    task = request.getfixturevalue(task)
    item, outcome = next(iter(judge_all(task, made_candidate(), tmp_path).items()))
    ((_, pictures),) = task.draw(item, {"cells": outcome}, {"cells": tmp_path}).rows
    assert list(pictures) == ["image", "ground truth", "cells"]
    assert pictures["cells"].shape == (112, 5 * 112, 3) and pictures["cells"].dtype == np.uint8


def test_settings_change_with_the_gallery_and_not_with_the_folder(instances, tmp_path):
    copy = Retrieval(shutil.copytree(instances.root, tmp_path / "copy"), image_size=64)
    assert copy.settings() == instances.settings()
    Image.new("RGB", (64, 64)).save(copy.root / "gallery" / "jade" / "jade_9.png")
    assert Retrieval(copy.root, image_size=64).settings() != instances.settings()


def test_wrong_layouts_are_refused_by_name(instances, tmp_path):
    shutil.copytree(instances.root / "query" / "ruby", instances.root / "query" / "onyx")
    with pytest.raises(ValueError, match=r"'onyx', which the gallery lacks; it has amber"):
        Retrieval(instances.root).items()
    shutil.rmtree(instances.root / "query")
    with pytest.raises(FileNotFoundError, match="gallery/ but not its counterpart"):
        Retrieval(instances.root).items()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Retrieval(tmp_path / "none").items()
    with pytest.raises(FileNotFoundError, match=r"lies in no class's folder"):
        Retrieval(instances.root / "gallery" / "ruby").items()


def test_a_model_without_class_token_is_sent_to_the_mean(instances, tmp_path):
    candidate = made_candidate()

    def read(layers, norm):
        if "-1:prefix" in layers:
            raise ValueError("cells has no class or register tokens; choose layers without the facet prefix")
        return candidate.read(layers, norm)  # pyright: ignore[reportOptionalCall]

    bare = type(candidate)("cells", candidate.extract, candidate.normalization, read=read)
    with pytest.raises(ValueError, match="cells: .*descriptor 'mean'"):
        judge_all(instances, bare, tmp_path)
    assert judge_all(Retrieval(instances.root, image_size=64, descriptor="mean"), bare, tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.pop("qimlist"), "KeyError: 'qimlist'"),
        (lambda t: t["gnd"].pop(), "zip"),
        (lambda t: t["gnd"][0].update(easy=[99]), "index 99 of 6 images"),
        (lambda t: t["gnd"][0].update(bbx=[5, 5, 5, 9]), "box .* is empty"),
        (lambda t: t["imlist"].__setitem__(0, "../../secret"), "is not the name of an image"),
        (lambda t: t["qimlist"].__setitem__(1, t["qimlist"][0]), "1 different"),
    ],
)
def test_a_ground_truth_that_is_none_is_refused(landmarks, change, fault):
    path = landmarks.root / "gnd_rexample.pkl"
    truth = pickle.loads(path.read_bytes())
    change(truth)
    path.write_bytes(pickle.dumps(truth))
    with pytest.raises(ValueError, match=rf"gnd_rexample.pkl .*{fault}"):
        read_ground_truth(path)


def test_missing_images_are_named_before_work(landmarks):
    (landmarks.root / "jpg" / "tower_000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 8 images .*tower_000001.jpg"):
        RevisitedRetrieval(landmarks.root).items()
    (landmarks.root / "gnd_rexample.pkl").unlink()
    with pytest.raises(FileNotFoundError, match="it holds none"):
        RevisitedRetrieval(landmarks.root).items()
