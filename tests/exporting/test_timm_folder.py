"""The export: equal to the student, loadable by timm alone, and never half-written."""

import copy
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from srt_distill.backbone import hash_weights
from srt_distill.exporting import export_student, student, timm_folder, verification
from srt_distill.runs import declared_readout


@pytest.fixture
def older(tmp_path) -> Path:
    """A folder that stands for an older export."""
    folder = tmp_path / "adapted"
    folder.mkdir()
    (folder / "parity.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"the older one")
    return folder


def test_the_export_is_the_student_to_the_bit(run, exported):
    (proof,) = [proof for proof in exported.proofs if proof.format == "timm"]
    assert set(proof.differences.values()) == {0.0}
    assert list(proof.differences) == ["32x32", "80x120", "136x48"]
    assert exported.student_hash != exported.teacher_hash

    model = timm.create_model(f"local-dir:{exported.folder}", pretrained=True)
    assert hash_weights(model) == exported.student_hash == hash_weights(run.student)
    assert [(k, v.shape) for k, v in model.state_dict().items()] == [
        (k, v.shape) for k, v in run.teacher.state_dict().items()
    ]
    assert torch.equal(model.head.weight, run.teacher.head.weight)
    config = json.loads((exported.folder / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == list(run.teacher.pretrained_cfg["mean"])


def test_the_card_names_teacher_scores_and_settings(exported):
    written = (exported.folder / "README.md").read_text()
    assert written.startswith("---\nlibrary_name: timm\n")
    for text in (
        exported.teacher_hash[:16],
        "val/gap_closed",
        "radius: 1",
        "9 sub-patch",
        '| timm | `timm.create_model("local-dir:adapted", pretrained=True)` | 32x32 | 0 |',
        f"{exported.parity.num_parameters:,}",
    ):
        assert text in written


def test_the_script_that_checks_the_export_never_imports_this_package(exported, tmp_path):
    save_file({"x": torch.zeros(1, 3, 32, 32)}, tmp_path / "in.safetensors")
    script = verification.SCRIPTS / "plain_timm.py"
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "print([m for m in sys.modules if m.startswith('srt_distill')])"
    )
    words = [script, exported.folder, tmp_path / "in.safetensors", tmp_path / "out.safetensors"]
    result = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert load_file(tmp_path / "out.safetensors")["x"].shape == (1, 17, 24)


@pytest.mark.parametrize("readout", ["none", "bilinear"])
def test_an_export_says_how_it_is_read(run, tmp_path, readout):
    done = export_student(replace(run, settings={**run.settings, "readout": readout}), tmp_path / "adapted", budget=0.0)
    assert declared_readout(done.folder) == declared_readout(f"local-dir:{done.folder}") == done.readout == readout
    assert ("Readout" in (done.folder / "README.md").read_text()) == (readout == "bilinear")


def test_an_export_that_differs_is_not_written(run, older, monkeypatch):
    def save_another(model, folder):
        other = torch.nn.Module.state_dict(model)
        save_backbone(model, folder)
        save_file({k: v + 1e-3 if k == "norm.bias" else v for k, v in other.items()}, folder / "model.safetensors")

    save_backbone = timm_folder.save_backbone
    monkeypatch.setattr(timm_folder, "save_backbone", save_another)
    with pytest.raises(RuntimeError, match=r"differs from the student by up to 0.00"):
        export_student(run, older, budget=0.0)
    assert (older / "model.safetensors").read_bytes() == b"the older one"
    assert [p.name for p in older.parent.iterdir()] == ["adapted"]


def test_a_full_disk_leaves_the_old_export(run, older, exported, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(student, "write_timm", lambda *_: exported.proofs[0])
    monkeypatch.setattr(student, "write_card", fail)
    with pytest.raises(OSError, match="No space left"):
        export_student(run, older, budget=0.0)
    assert (older / "model.safetensors").read_bytes() == b"the older one"
    assert [p.name for p in older.parent.iterdir()] == ["adapted"]


def test_an_unwritable_output_is_refused_first(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="cannot be written to"):
        export_student(run, tmp_path / "file" / "adapted")


def test_a_folder_with_anything_else_is_refused_first(run, older, monkeypatch):
    monkeypatch.setattr(student, "expect_features", lambda _: pytest.fail("work was done"))
    (older / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, which would be lost"):
        export_student(run, older)
    assert (older / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("output", ["mine", ".", "mine/export", "mine/checkpoints"])
def test_an_output_that_touches_the_run_is_refused_first(run, tmp_path, output):
    checkpoints = tmp_path / "runs" / "mine" / "checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(run.path, checkpoints / "last.ckpt")
    with pytest.raises(FileExistsError, match=r"the run .*give a folder outside"):
        export_student(tmp_path / "runs" / "mine", tmp_path / "runs" / output)
    assert [path.name for path in checkpoints.iterdir()] == ["last.ckpt"]


def test_an_empty_folder_behind_a_link_is_filled(run, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "adapted").symlink_to("disk")
    done = export_student(run.path, str(tmp_path / "adapted"), budget=0.0)
    assert done.folder == tmp_path / "adapted"
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "parity.json")
    }
    again = export_student(run, tmp_path / "adapted", budget=0.0)  # an older export may be replaced
    assert again.student_hash == done.student_hash
    assert (tmp_path / "adapted").is_symlink()


def test_weights_that_are_no_numbers_are_not_exported(run, tmp_path):
    broken = copy.deepcopy(run.student)
    with torch.no_grad():
        broken.norm.bias[0] = torch.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 of .*norm\.bias"):
        export_student(replace(run, student=broken), tmp_path / "adapted")
    assert not (tmp_path / "adapted").exists()


def test_no_path_of_this_machine_is_in_the_texts(exported, tiny_folder, run):
    for file in (exported.folder / name for name in ("README.md", "config.json", "parity.json")):
        for path in (tiny_folder.parent, run.path.parent, exported.folder.parent, Path.home()):
            assert str(path) not in file.read_text()
    assert "- Teacher: tiny (a local folder)" in (exported.folder / "README.md").read_text()


def test_every_file_is_as_readable_as_any_other(exported, tmp_path):
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in exported.folder.rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "plain").stat().st_mode}
