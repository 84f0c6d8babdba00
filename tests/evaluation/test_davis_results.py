"""What an evaluation leaves on disk: whole files, the right colours, and only true marks of being finished."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from srt_distill.evaluation import davis
from srt_distill.tasks.davis.evaluation import evaluate_davis, score_davis
from srt_distill.tasks.davis.result_files import (
    DavisResult,
    SequenceResult,
    read_finished,
    settings_digest,
    write_mask,
)
from torch import Tensor

from srt_distill.visualization.overlays import object_palette


class CountedColours:
    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        self.num_calls += 1
        return (F.avg_pool2d(images, 8),)


evaluate = partial(
    evaluate_davis,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    fingerprint={"weights": "a"},
    patch=8,
    scale=0.1,
    size_multiple=8,
    device=torch.device("cpu"),
    progress=False,
)


def test_result_survives_json(tiny_davis: Path, tmp_path: Path) -> None:
    result = evaluate(CountedColours(), tiny_davis, tmp_path)
    assert DavisResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert DavisResult.from_dict(json.loads((tmp_path / "results.json").read_text())) == result
    scored = score_davis(tmp_path, tiny_davis)
    assert DavisResult.from_dict(json.loads(json.dumps(scored.to_dict()))) == scored
    assert scored.seconds_per_frame is None


def test_a_sequence_is_redone_where_a_mask_is_gone_or_its_data_changed(tiny_davis: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_davis, tmp_path / "davis")
    evaluate(CountedColours(), data, tmp_path / "out")
    (tmp_path / "out/cats/00002.png").unlink()
    extract = CountedColours()
    evaluate(extract, data, tmp_path / "out")
    assert extract.num_calls == 5
    frame = data / "JPEGImages/480p/dogs/00004.jpg"
    with Image.open(frame) as image:
        inverted = 255 - np.array(image)
    Image.fromarray(inverted).save(frame)
    extract = CountedColours()
    evaluate(extract, data, tmp_path / "out")
    assert extract.num_calls == 5


def test_a_full_disk_is_reported_and_leaves_no_mark_of_being_finished(
    tiny_davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(CountedColours(), tiny_davis, tmp_path)

    def full_disk(path: Path, ids: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(davis, "write_mask", full_disk)
    with pytest.raises(OSError, match="No space left"):
        evaluate(CountedColours(), tiny_davis, tmp_path, top_k=3)
    assert not (tmp_path / "cats/scores.json").exists()  # its masks are of unknown settings now
    assert (tmp_path / "dogs/scores.json").is_file()


def test_torn_or_foreign_marks_count_as_unfinished(tmp_path: Path) -> None:
    assert read_finished(tmp_path, "a", []) is None
    for content in ("", "[]", "7", '{"settings_digest": "a"}', '{"settings_digest": "a", "result": {}}'):
        (tmp_path / "scores.json").write_text(content)
        assert read_finished(tmp_path, "a", []) is None


def test_settings_hash_ignores_order_and_sees_values() -> None:
    assert settings_digest({"a": 1, "b": [2]}) == settings_digest({"b": [2], "a": 1})
    assert settings_digest({"a": 1}) != settings_digest({"a": 1.5})


def test_palette_begins_as_in_davis() -> None:
    assert object_palette()[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert len(np.unique(object_palette(), axis=0)) == 256


def test_masks_look_like_real_ones(shared_data: Path, tmp_path: Path) -> None:
    with Image.open(shared_data / "DAVIS/Annotations/480p/libby/00000.png") as real:
        write_mask(tmp_path / "mask.png", np.array(real))
        with Image.open(tmp_path / "mask.png") as ours:
            assert ours.convert("RGB").tobytes() == real.convert("RGB").tobytes()


def test_predictions_of_another_size_or_missing_are_refused(tiny_davis: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cats.00001\.png"):
        score_davis(tmp_path, tiny_davis)
    for t in range(5):
        write_mask(tmp_path / f"cats/{t:05d}.png", np.zeros((48, 80), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"is 80x48 pixels, the ground truth 96x64"):
        score_davis(tmp_path, tiny_davis, sequences=["cats"])


def test_a_perfect_prediction_scores_one(tiny_davis: Path) -> None:
    result = score_davis(tiny_davis / "Annotations/480p", tiny_davis)
    assert result.scores["J&F-Mean"] == 1.0
    assert isinstance(result.sequences[0], SequenceResult)
    assert result.sequences[0].scores["F-Decay"] == 0.0
