"""The DAVIS task from folder to tables: what it writes, what it skips, what it refuses."""

import csv
import json
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from srt_distill.comparison import evaluate as evaluate_candidate
from srt_distill.comparison.judging import OUTCOME_FILE
from srt_distill.images import IMAGENET, Normalization
from srt_distill.tasks import Candidate, Davis, Outcome
from srt_distill.tasks.davis import score_masks, write_mask
from srt_distill.tasks.davis import task as davis_module
from srt_distill.tasks.davis.label_propagation import PropagationOptions
from srt_distill.tasks.davis.sequence_scores import pool
from srt_distill.tasks.davis.videos import network_size, read_mask


class MeanColours:
    """Mean colours of cells of 8 pixels, their differences to the frame's mean added: features enough for squares."""

    def __init__(self):
        self.num_calls = 0

    def __call__(self, images):
        self.num_calls += 1
        cells = torch.nn.functional.avg_pool2d(images, 8)
        return (torch.cat([cells, cells - images.mean((2, 3), keepdim=True), torch.ones_like(cells[:, :1])], 1),)


def evaluate(root, output, extract=None, fingerprint="a", normalization=IMAGENET, **options):
    """Scores of a candidate; the patch side is found out with one more image."""
    candidate = Candidate("colours", extract or MeanColours(), normalization, fingerprint={"weights": fingerprint})
    task = Davis(root, **{"scale": 0.2, "size_multiple": 8, **options})
    return evaluate_candidate(candidate, [task], output, progress=False).tasks[0]


@pytest.fixture
def davis(tiny_davis, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(tiny_davis, tmp_path / "davis")


def masks_of(root, name):
    return sorted((root / "Annotations" / "480p" / name).iterdir())


def test_masks_tables_and_results_are_written(tiny_davis, tmp_path):
    result = evaluate(tiny_davis, tmp_path)
    assert result.items == ("cats", "dogs")
    with (tmp_path / "global_results-val.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    assert float(row["J-Mean"]) == pytest.approx(
        result.rows[0].scores["J-Mean"], abs=6e-4
    )  # three decimals, as official
    with (tmp_path / "per-sequence_results-val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["Sequence", "J-Mean", "F-Mean"]
    assert [row["Sequence"] for row in rows] == ["cats_1", "cats_2", "dogs_1", "dogs_2"]

    for path in sorted((tmp_path / "cats").glob("*.png")):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("P", (96, 64))
        assert set(np.unique(read_mask(path))) <= {0, 1, 2}
    again = score_masks(tmp_path, tiny_davis)
    scores = result.rows[0].scores
    assert pool([pair for objects in again.values() for pair in objects.values()]) == pytest.approx(scores)
    assert json.loads((tmp_path / "results.json").read_text())["tasks"][0]["rows"][0]["scores"] == scores


def test_a_finished_sequence_is_skipped_and_another_setting_is_not(tiny_davis, tmp_path):
    first = evaluate(tiny_davis, tmp_path)
    extract = MeanColours()
    again = evaluate(tiny_davis, tmp_path, extract)
    assert extract.num_calls == 0
    assert again.rows[0].scores == first.rows[0].scores
    for changed in (
        {"propagation": PropagationOptions(top_k=3)},
        {"fingerprint": "b"},
        {"normalization": Normalization((0.5,) * 3, (0.2,) * 3)},
    ):
        extract = MeanColours()
        evaluate(tiny_davis, tmp_path, extract, **changed)
        assert extract.num_calls == 11


def test_a_finished_sequence_is_trusted_only_if_it_is_whole(tiny_davis, tmp_path):
    evaluate(tiny_davis, tmp_path)
    mask = tmp_path / "cats" / "00002.png"
    mask.write_bytes(mask.read_bytes()[:-9])
    extract = MeanColours()
    evaluate(tiny_davis, tmp_path, extract)
    assert extract.num_calls == 5


def test_an_interrupted_sequence_is_computed_again(tiny_davis, tmp_path):
    class Stops(MeanColours):
        def __call__(self, images):
            if self.num_calls == 8:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny_davis, tmp_path, Stops())
    extract = MeanColours()
    evaluate(tiny_davis, tmp_path, extract)
    assert extract.num_calls == 5  # the second video only; the patch side is on disk


def test_a_mask_that_cannot_be_written_ends_the_run_and_leaves_it_unfinished(tiny_davis, tmp_path, monkeypatch):
    def full_disk(path, ids):
        if path.name == "00001.png":
            raise OSError("no space left on device")
        write_mask(path, ids)

    monkeypatch.setattr(davis_module, "write_mask", full_disk)
    with pytest.raises(OSError, match="no space left"):
        evaluate(tiny_davis, tmp_path)
    assert not (tmp_path / "cats" / OUTCOME_FILE).exists()
    monkeypatch.undo()
    extract = MeanColours()
    evaluate(tiny_davis, tmp_path, extract)
    assert extract.num_calls == 10


def test_a_failed_write_is_noticed_at_the_next_frame(tiny_davis, tmp_path, monkeypatch):
    failed = threading.Event()

    def full_disk(path, ids):
        failed.set()
        raise OSError("no space left on device")

    class Waits(MeanColours):
        def __call__(self, images):
            if self.num_calls:  # not for the patch side: the first mask is handed out before any frame is looked at
                failed.wait(20)
            return super().__call__(images)

    monkeypatch.setattr(davis_module, "write_mask", full_disk)
    extract = Waits()
    with pytest.raises(OSError, match="no space left"):
        evaluate(tiny_davis, tmp_path, extract)
    assert extract.num_calls < 6  # of the first video's, and one for the patch side


def test_masks_are_written_beside_the_work(tiny_davis, tmp_path, monkeypatch):
    third_frame = threading.Event()
    waited = []

    def slow_disk(path, ids):
        if path.name == "00000.png":
            waited.append(third_frame.wait(20))
        write_mask(path, ids)

    class Tells(MeanColours):
        def __call__(self, images):
            if self.num_calls == 3:
                third_frame.set()
            return super().__call__(images)

    evaluate(tiny_davis, tmp_path / "plain", sequences=("cats",))
    monkeypatch.setattr(davis_module, "write_mask", slow_disk)
    evaluate(tiny_davis, tmp_path / "slow", Tells(), sequences=("cats",))
    assert waited == [True]  # frame 2 was extracted while mask 0 was being written
    for path in (tmp_path / "plain" / "cats").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "slow" / "cats" / path.name).read_bytes()


def test_an_object_that_vanishes_on_the_token_grid_moves_no_other_id(davis, tmp_path):
    first = masks_of(davis, "cats")[0]
    ids = read_mask(first)
    ids[ids == 1] = 0
    ids[5, 5] = 1  # one pixel, off the centres of all tokens
    picture = Image.fromarray(ids)
    picture.putpalette([0] * 768)
    picture.save(first)
    evaluate(davis, tmp_path / "out", sequences=("cats",))
    second = read_mask(tmp_path / "out" / "cats" / "00001.png")
    square = second[20:50, 60:90]
    assert 2 in square and 1 not in second


@pytest.mark.parametrize(
    ("size", "patch", "scale", "multiple", "expected"),
    [
        ((480, 854), 16, 1.0, 64, (480, 832)),
        ((480, 854), 8, 1.0, 64, (480, 832)),
        ((480, 854), 14, 1.0, 64, (476, 840)),
        ((480, 854), 16, 0.5, 32, (240, 416)),
        ((854, 480), 16, 1.0, 64, (832, 480)),
        ((480, 910), 16, 1.0, 64, (480, 896)),
    ],
)
def test_network_sizes(size, patch, scale, multiple, expected):
    assert network_size(size, patch, scale, multiple) == expected


def test_a_missing_root_split_or_sequence_names_what_there_is(tiny_davis, tmp_path):
    with pytest.raises(FileNotFoundError, match="no DAVIS folder at .*must hold JPEGImages"):
        evaluate(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no split list ImageSets/2017/test\.txt.*available: .*val\.txt"):
        evaluate(tiny_davis, tmp_path / "out", split="test")
    with pytest.raises(FileNotFoundError, match="'catz'.*nearest: cats"):
        evaluate(tiny_davis, tmp_path / "out", sequences=("catz",))
    assert not (tmp_path / "out").exists()


def test_a_video_without_a_first_mask_is_refused(davis, tmp_path):
    masks_of(davis, "dogs")[0].unlink()
    with pytest.raises(FileNotFoundError, match="sequence 'dogs' has no first mask"):
        evaluate(davis, tmp_path / "out")


def test_a_first_mask_without_objects_is_refused(davis, tmp_path):
    Image.fromarray(np.zeros((64, 96), np.uint8)).save(masks_of(davis, "dogs")[0])
    with pytest.raises(ValueError, match="holds no object"):
        evaluate(davis, tmp_path / "out")


def test_sizes_that_differ_are_refused(davis, tmp_path):
    Image.fromarray(np.ones((32, 96), np.uint8)).save(masks_of(davis, "dogs")[2])
    with pytest.raises(ValueError, match="sizes differ in sequence 'dogs': .*96x32 pixels, .*96x64"):
        evaluate(davis, tmp_path / "out")


def test_ids_above_the_palette_are_refused(davis, tmp_path):
    Image.fromarray(np.full((64, 96), 300, np.uint16)).save(masks_of(davis, "dogs")[0])
    with pytest.raises(ValueError, match="holds object id 300; a palette has room for ids up to 254"):
        evaluate(davis, tmp_path / "out")


def test_colours_instead_of_ids_are_refused(davis, tmp_path):
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(masks_of(davis, "dogs")[0])
    with pytest.raises(ValueError, match="mode RGB, colours instead of ids"):
        evaluate(davis, tmp_path / "out")


def test_an_output_that_cannot_be_written_is_refused_before_the_work(tiny_davis, tmp_path):
    (tmp_path / "file").write_text("")
    extract = MeanColours()
    with pytest.raises(PermissionError, match="cannot be written to"):
        evaluate(tiny_davis, tmp_path / "file" / "out", extract)
    assert extract.num_calls == 0


def test_real_videos_of_several_objects(shared_data, tmp_path):
    result = evaluate(shared_data / "multi_object", tmp_path, sequences=("ice",), scale=1 / 3)
    with (tmp_path / "per-sequence_results-val.csv").open() as file:
        assert len(list(csv.DictReader(file))) >= 4
    assert 0 < result.rows[0].scores["J-Mean"] < 1


def relabel(root, name, numbers):
    """Give the objects of a sequence other ids."""
    for path in masks_of(root, name):
        ids = read_mask(path)
        write_mask(path, np.select([ids == k for k in numbers], list(numbers.values()), 0).astype(np.uint8))


@pytest.mark.parametrize("numbers", [{1: 1, 2: 100}, {1: 128, 2: 7}, {1: 254, 2: 253}])
def test_ids_with_gaps_are_propagated_and_scored_under_their_own_numbers(davis, tmp_path, numbers):
    plain = evaluate(davis, tmp_path / "plain", sequences=("cats",))
    relabel(davis, "cats", numbers)
    result = evaluate(davis, tmp_path / "out", sequences=("cats",))
    for score in ("J-Mean", "F-Mean"):  # ties between equal labels may fall otherwise under another order of ids
        assert result.rows[0].scores[score] == pytest.approx(plain.rows[0].scores[score], abs=0.02)
    for path in (tmp_path / "out" / "cats").glob("*.png"):
        assert set(np.unique(read_mask(path))) <= {0, *numbers.values()}
    with (tmp_path / "out" / "per-sequence_results-val.csv").open() as file:
        assert [row["Sequence"] for row in csv.DictReader(file)] == [f"cats_{k}" for k in sorted(numbers.values())]


def test_an_object_that_comes_later_is_background(davis, tmp_path):
    path = masks_of(davis, "cats")[3]
    ids = read_mask(path)
    ids[:4, :4] = 9
    write_mask(path, ids)
    evaluate(davis, tmp_path / "out", sequences=("cats",))
    assert all(9 not in read_mask(found) for found in (tmp_path / "out" / "cats").glob("*.png"))


def test_frames_in_16_bits_or_on_their_side_score_as_the_plain_ones(davis, tmp_path):
    plain = evaluate(davis, tmp_path / "plain", sequences=("cats",))
    for path in sorted((davis / "JPEGImages" / "480p" / "cats").iterdir()):
        with Image.open(path) as image:
            upright = image.convert("RGB")
        turned = upright.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6
        path.unlink()
        turned.save(path.with_suffix(".png"), exif=exif)
    again = evaluate(davis, tmp_path / "turned", sequences=("cats",))
    assert again.rows[0].scores == plain.rows[0].scores


def test_a_damaged_frame_is_named_with_its_sequence(davis, tmp_path):
    path = davis / "JPEGImages" / "480p" / "dogs" / "00003.jpg"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(OSError, match=r"00003\.jpg.*dogs"):
        evaluate(davis, tmp_path / "out", sequences=("dogs",))


def test_unpadded_names_are_in_order_of_time_and_dot_files_are_passed_over(davis, tmp_path):
    folders = [davis / kind / "480p" for kind in ("JPEGImages", "Annotations")]
    for folder, ending in zip(folders, ("jpg", "png")):
        (folder / "birds").mkdir()
        for t in range(5):
            shutil.copy(folder / "cats" / f"{t:05d}.{ending}", folder / "birds" / f"{t + 8}.{ending}")
    (folders[0] / "birds" / "._8.jpg").write_bytes(b"no picture")
    result = evaluate(davis, tmp_path / "out", sequences=("cats", "birds")).rows[0]
    assert result.by_item["cats"] == result.by_item["birds"]
    shutil.copy(folders[0] / "birds" / "9.jpg", folders[0] / "birds" / "9.png")
    with pytest.raises(ValueError, match=r"9\.(jpg|png)"):
        evaluate(davis, tmp_path / "twice", sequences=("birds",))


@pytest.mark.parametrize("names", [b"\xef\xbb\xbfcats\r\ndogs\r\n", b"# two\ncats\n\ndogs\n"])
def test_split_lists_as_people_write_them(davis, tmp_path, names):
    (davis / "ImageSets" / "2017" / "mine.txt").write_bytes(names)
    assert evaluate(davis, tmp_path / "out", split="mine").items == ("cats", "dogs")


@pytest.mark.parametrize("resolution", ["Full-Resolution", ""])
def test_videos_without_the_folder_480p_are_scored(davis, tmp_path, resolution):
    plain = evaluate(davis, tmp_path / "plain")
    for kind in ("JPEGImages", "Annotations"):
        (davis / kind / "480p").rename(davis / "aside")
        shutil.rmtree(davis / kind)
        target = davis / kind / resolution if resolution else davis / kind
        target.parent.mkdir(exist_ok=True)
        (davis / "aside").rename(target)
    assert evaluate(davis, tmp_path / "out").rows[0].scores == plain.rows[0].scores


def test_dinos_constants_are_an_explicit_choice_for_imagenets(tiny_davis, tmp_path):
    seen = {}

    def note(key):
        def extract(images):
            seen.setdefault(key, images.double().sum().item())
            return MeanColours()(images)

        return extract

    other = Normalization((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    for choice in ("model", "dino"):
        for name, normalization in (("imagenet", IMAGENET), ("other", other)):
            options = {"normalization": choice, "sequences": ("cats",)}
            candidate = Candidate("c", note((choice, name)), normalization, fingerprint={"is": name})
            task = Davis(tiny_davis, scale=0.2, size_multiple=8, **options)
            task.judge(candidate, {"patch": torch.tensor(8)}, task.items()[0], tmp_path / choice / name)
    assert seen["model", "imagenet"] != seen["dino", "imagenet"]
    assert seen["model", "other"] == seen["dino", "other"]


def test_the_example_is_a_run_of_seconds(tmp_path):
    task = Davis.example(tmp_path / "data")
    candidate = Candidate("colours", MeanColours(), IMAGENET)
    result = evaluate_candidate(candidate, [task], tmp_path / "out", progress=False).tasks[0]
    assert result.rows[0].scores["J-Mean"] > 0.3
    sheet = task.draw(task.items()[0], {"colours": Outcome({})}, {"colours": tmp_path / "out" / "cats"})
    assert [list(pictures) for _, pictures in sheet.rows] == [["ground truth", "colours"]] * 3
    assert len(sheet.curves["colours"]) == 3
