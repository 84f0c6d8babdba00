"""The DAVIS evaluation from folder to tables: what it writes, what it skips, what it refuses."""

import csv
import json
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from srt_distill.evaluation import davis as davis_module

from srt_distill.tasks.davis.evaluation import DAVIS_MEAN, DAVIS_STD, evaluate_davis, score_davis
from srt_distill.tasks.davis.result_files import FINISHED, write_mask
from srt_distill.tasks.davis.videos import network_size, read_mask

MEAN_STD = {"mean": DAVIS_MEAN, "std": DAVIS_STD}


class MeanColours:
    """Mean colours of cells of 8 pixels, their differences to the frame's mean added: features enough for squares."""

    def __init__(self):
        self.num_calls = 0

    def __call__(self, images):
        self.num_calls += 1
        cells = torch.nn.functional.avg_pool2d(images, 8)
        return (torch.cat([cells, cells - images.mean((2, 3), keepdim=True), torch.ones_like(cells[:, :1])], 1),)


def evaluate(root, output, extract=None, **options):
    settings = {"fingerprint": {"weights": "a"}, "device": torch.device("cpu"), "scale": 0.2, "size_multiple": 8}
    return evaluate_davis(
        extract or MeanColours(), root, output, **MEAN_STD, patch=8, progress=False, **{**settings, **options}
    )


@pytest.fixture
def davis(tiny_davis, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(tiny_davis, tmp_path / "davis")


def masks_of(root, name):
    return sorted((root / "Annotations" / "480p" / name).iterdir())


def test_masks_tables_and_results_are_written(tiny_davis, tmp_path):
    result = evaluate(tiny_davis, tmp_path)
    assert [s.name for s in result.sequences] == ["cats", "dogs"]
    with (tmp_path / "global_results-val.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert list(row) == ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    assert float(row["J-Mean"]) == pytest.approx(result.scores["J-Mean"], abs=6e-4)  # three decimals, as official
    with (tmp_path / "per-sequence_results-val.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["Sequence", "J-Mean", "F-Mean"]
    assert [row["Sequence"] for row in rows] == ["cats_1", "cats_2", "dogs_1", "dogs_2"]

    for path in sorted((tmp_path / "cats").glob("*.png")):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("P", (96, 64))
        assert set(np.unique(read_mask(path))) <= {0, 1, 2}
    again = score_davis(tmp_path, tiny_davis)
    assert again.scores == pytest.approx(result.scores)
    assert json.loads((tmp_path / "results.json").read_text())["scores"] == pytest.approx(result.scores)


def test_a_finished_sequence_is_skipped_and_another_setting_is_not(tiny_davis, tmp_path):
    first = evaluate(tiny_davis, tmp_path)
    extract = MeanColours()
    again = evaluate(tiny_davis, tmp_path, extract)
    assert extract.num_calls == 0
    assert again.scores == first.scores
    for changed in ({"top_k": 3}, {"fingerprint": {"weights": "b"}}, {"temperature": 0.2}):
        extract = MeanColours()
        evaluate(tiny_davis, tmp_path, extract, **changed)
        assert extract.num_calls == 10


def test_an_interrupted_sequence_is_computed_again(tiny_davis, tmp_path):
    class Stops(MeanColours):
        def __call__(self, images):
            if self.num_calls == 7:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny_davis, tmp_path, Stops())
    extract = MeanColours()
    evaluate(tiny_davis, tmp_path, extract)
    assert extract.num_calls == 5  # the second video only


def test_a_mask_that_cannot_be_written_ends_the_run_and_leaves_it_unfinished(tiny_davis, tmp_path, monkeypatch):
    def full_disk(path, ids):
        if path.name == "00001.png":
            raise OSError("no space left on device")
        write_mask(path, ids)

    monkeypatch.setattr(davis_module, "write_mask", full_disk)
    with pytest.raises(OSError, match="no space left"):
        evaluate(tiny_davis, tmp_path)
    assert not (tmp_path / "cats" / FINISHED).exists()
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
            failed.wait(20)  # the first mask is handed out before any frame is looked at
            return super().__call__(images)

    monkeypatch.setattr(davis_module, "write_mask", full_disk)
    extract = Waits()
    with pytest.raises(OSError, match="no space left"):
        evaluate(tiny_davis, tmp_path, extract)
    assert extract.num_calls < 5  # of the first video's


def test_masks_are_written_beside_the_work(tiny_davis, tmp_path, monkeypatch):
    third_frame = threading.Event()
    waited = []

    def slow_disk(path, ids):
        if path.name == "00000.png":
            waited.append(third_frame.wait(20))
        write_mask(path, ids)

    class Tells(MeanColours):
        def __call__(self, images):
            if self.num_calls == 2:
                third_frame.set()
            return super().__call__(images)

    evaluate(tiny_davis, tmp_path / "plain", sequences=["cats"])
    monkeypatch.setattr(davis_module, "write_mask", slow_disk)
    evaluate(tiny_davis, tmp_path / "slow", Tells(), sequences=["cats"])
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
    evaluate(davis, tmp_path / "out", sequences=["cats"])
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
        evaluate(tiny_davis, tmp_path / "out", sequences=["catz"])
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
    result = evaluate(shared_data / "multi_object", tmp_path, sequences=["ice"], scale=1 / 3)
    assert len(result.sequences[0].objects) >= 4
    assert 0 < result.scores["J-Mean"] < 1
