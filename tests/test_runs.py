"""Runs on disk, and backbones by any name."""

from pathlib import Path

import pytest
import torch

from srt_distill.backbone import BackboneOptions, hash_weights, load_backbone
from srt_distill.runs import find_checkpoint, load_run, open_backbone


def test_a_run_folder_stands_for_its_last_checkpoint(tmp_path):
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    assert find_checkpoint(tmp_path) == find_checkpoint(last) == find_checkpoint(last.parent) == last


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither a checkpoint nor a run folder.*srt-distill fit"):
        find_checkpoint(tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_run(tmp_path / "cut.ckpt")


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint.*can run any code.*--model.weights"):
        load_run(tmp_path / "evil.ckpt")
    assert not (tmp_path / "touched").exists()


def test_somebody_elses_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of srt-distill fit"):
        load_run(tmp_path / "other.ckpt")


def test_an_exported_folder_opens_by_its_path(tiny_folder):
    opened = open_backbone(BackboneOptions(str(tiny_folder)))
    assert hash_weights(opened) == hash_weights(load_backbone(f"local-dir:{tiny_folder}"))
