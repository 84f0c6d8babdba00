"""Runs on disk, and backbones by any name."""

from pathlib import Path

import pytest
import torch
import yaml

from srt_distill.backbone import BackboneOptions, backbone_config, hash_weights, load_backbone
from srt_distill.runs import (
    declared_readout,
    find_checkpoint,
    load_run,
    open_backbone,
    read_checkpoint,
    record_scores,
    run_folder,
)


@pytest.fixture
def checkpoint(tiny_folder, tmp_path):
    """A run folder's checkpoint, made without a training."""
    model = load_backbone(f"local-dir:{tiny_folder}")
    state = model.state_dict().items()
    weights = {f"{role}.{name}": value.clone() for role in ("student", "teacher") for name, value in state}
    content = {
        "state_dict": weights,
        "hyper_parameters": {"trainable": {"part": "all"}},
        "backbone": backbone_config(model),
        "scores": {"val/gap_closed": 0.5},
        "global_step": 3,
    }
    file = tmp_path / "mine" / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    torch.save(content, file)
    return file


def change(checkpoint, edit):
    content = torch.load(checkpoint, weights_only=True)
    edit(content)
    torch.save(content, checkpoint)


def test_student_and_teacher_come_back(checkpoint, tiny_folder):
    (run_folder(checkpoint) / "config.yaml").write_text(yaml.safe_dump({"data": {"batch_size": 4}}))
    run = load_run(run_folder(checkpoint))
    assert run_folder(checkpoint) == checkpoint.parents[1]
    assert run_folder(checkpoint.parents[1] / "alone.ckpt") == checkpoint.parents[1] / "alone.ckpt"
    expected = hash_weights(load_backbone(f"local-dir:{tiny_folder}"))
    assert hash_weights(run.student) == hash_weights(run.teacher) == expected
    assert (run.step, run.scores, run.data_settings) == (3, {"val/gap_closed": 0.5}, {"batch_size": 4})
    (run_folder(checkpoint) / "config.yaml").write_text("- somebody else's\n")
    assert load_run(checkpoint).data_settings == {}


def test_scores_are_added_and_all_else_stays(checkpoint):
    checkpoint.chmod(0o600)
    record_scores(checkpoint, {"davis-2017/J&F-Mean": 0.6, "train/loss": 1.0, "epoch": 2.0})
    content = read_checkpoint(checkpoint)
    assert content["scores"] == {"val/gap_closed": 0.5, "davis-2017/J&F-Mean": 0.6}
    assert content["global_step"] == 3
    assert checkpoint.stat().st_mode & 0o777 == 0o600


def test_flipped_bytes_in_a_checkpoint_are_found_and_others_named(checkpoint):
    whole = checkpoint.read_bytes()
    (checkpoint.parent / "best.ckpt").write_bytes(whole)
    damaged = bytearray(whole)
    middle = len(whole) // 2
    damaged[middle : middle + 400] = bytes(byte ^ 0xFF for byte in damaged[middle : middle + 400])
    checkpoint.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged[\s\S]*Other checkpoints beside it: .*best\.ckpt"):
        load_run(checkpoint)
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"last\.ckpt is cut short"):
        load_run(checkpoint)
    checkpoint.write_bytes(b"")
    with pytest.raises(ValueError, match=r"last\.ckpt is empty"):
        load_run(checkpoint)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_weights_that_are_no_numbers_are_refused_by_name(checkpoint, role):
    change(checkpoint, lambda content: content["state_dict"][f"{role}.norm.bias"].fill_(float("nan")))
    with pytest.raises(ValueError, match=rf"the {role} in .*last\.ckpt holds NaN or infinity in 1 of .*norm\.bias"):
        open_backbone(BackboneOptions(str(checkpoint)))


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content["state_dict"].pop("student.norm.bias"),
        lambda content: content.update(hyper_parameters={}),
        lambda content: content.update(hyper_parameters={"trainable": "all"}),
        lambda content: content.update(backbone={}),
        lambda content: content.update(state_dict=None),
        lambda content: content.update(scores=3),
    ],
    ids=["tensor", "settings", "setting", "backbone", "weights", "scores"],
)
def test_checkpoints_of_other_versions_are_refused_in_words(checkpoint, edit):
    change(checkpoint, edit)
    with pytest.raises(ValueError, match=r"last\.ckpt is a checkpoint of another version.*; load it with"):
        load_run(checkpoint)


@pytest.mark.parametrize(
    "content", [[1, 2], {"state_dict": {}, "epoch": 3}, torch.zeros(3), {}], ids=["list", "dict", "tensor", "empty"]
)
def test_foreign_checkpoints_are_refused_in_words(content, tmp_path):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt is no checkpoint of srt-distill fit: it holds no '"):
        read_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_checkpoint(tmp_path / "absent.ckpt")


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
    with pytest.raises(ValueError, match=r"cannot be read as a checkpoint[\s\S]*can run any code"):
        load_run(tmp_path / "evil.ckpt")
    assert not (tmp_path / "touched").exists()


def test_a_run_and_an_export_say_how_they_are_read(checkpoint, tiny_folder, tmp_path):
    assert declared_readout("vit_small_patch16_224.dino") == declared_readout(tiny_folder) == "none"
    assert declared_readout(checkpoint) == "none", "of a time before readouts"
    change(checkpoint, lambda content: content["hyper_parameters"].update(readout="bilinear"))
    assert declared_readout(checkpoint) == declared_readout(run_folder(checkpoint)) == "bilinear"
    (tmp_path / "parity.json").write_text('{"readout": "bilinear"}')
    assert declared_readout(tmp_path) == declared_readout(f"local-dir:{tmp_path}") == "bilinear"
    (tmp_path / "parity.json").write_text('{"readout": "sharpened"}')
    with pytest.raises(ValueError, match=r"'sharpened', known are none, bilinear, pyramid; judge it with"):
        declared_readout(tmp_path)


def test_an_exported_folder_opens_by_its_path(tiny_folder):
    opened = open_backbone(BackboneOptions(str(tiny_folder)))
    assert hash_weights(opened) == hash_weights(load_backbone(f"local-dir:{tiny_folder}"))
