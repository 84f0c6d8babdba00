"""What counts as equal, and what is said when it is not."""

import pytest
import torch

from srt_distill.backbone import build_backbone
from srt_distill.exporting.verification import make_test_images, require_equal, require_extra, run_apart
from tests.backbone.small import build_small


def test_a_difference_beyond_the_bar_is_refused():
    wanted = {"a": torch.zeros(2, 3), "b": torch.ones(2, 3)}
    near = {"a": torch.zeros(2, 3) + 0.25, "b": torch.ones(2, 3)}
    assert require_equal("x", near, wanted, bar=0.25) == {"a": 0.25, "b": 0.0}
    with pytest.raises(RuntimeError, match=r"export as x differs from the student by up to 0.25, more than 0.2;"):
        require_equal("x", near, wanted, bar=0.2)
    with pytest.raises(RuntimeError, match=r"by up to nan"):
        require_equal("x", {**near, "b": torch.full((2, 3), torch.nan)}, wanted, bar=1.0)
    with pytest.raises(RuntimeError, match=r"shape \(3, 2\) for an image of a pixels"):
        require_equal("x", {**near, "a": torch.zeros(3, 2)}, wanted, bar=1.0)


def test_sizes_are_the_native_one_and_two_others_or_the_only_one():
    config = {"architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 64, "depth": 1}}
    images = make_test_images(build_backbone(config))
    assert {name: tuple(batch.shape) for name, batch in images.items()} == {
        "64x64": (1, 3, 64, 64),
        "160x240": (2, 3, 160, 240),
        "272x96": (3, 3, 272, 96),
    }
    assert list(make_test_images(build_small("hiera_tiny_224"))) == ["224x224"]


def test_a_missing_library_names_the_extra():
    require_extra("x", ["torch"])
    with pytest.raises(ImportError, match=r"format x needs no_such_module, not installed here; pip install 'srt-dist"):
        require_extra("x", ["torch", "no_such_module"])


def test_a_failing_script_says_why(tmp_path):
    script = tmp_path / "reader.py"
    script.write_text("raise SystemExit('the file is damaged')")
    with pytest.raises(RuntimeError, match=r"reader cannot run what was exported.*the file is damaged"):
        run_apart(script, [], {"a": torch.zeros(1)})
