"""The export: equal to the student, loadable by timm alone, and never half-written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import timm
import torch
from safetensors.torch import load_file, save_file

from srt_distill.backbone import hash_weights
from srt_distill.distillation import SRTDistillation
from srt_distill.exporting import export_timm, timm_folder
from srt_distill.runs import load_run
from tests.test_distillation import loader


@pytest.fixture(scope="module")
def run(tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    module = SRTDistillation(f"local-dir:{tiny_folder}", shift_radius=1)
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_progress_bar=False, enable_checkpointing=False)
    trainer.fit(module, loader(), loader(4, seed=1))
    trainer.save_checkpoint(folder / "run.ckpt")
    return load_run(folder / "run.ckpt")


def test_the_export_is_the_student_to_the_bit(run, tmp_path):
    done = export_timm(run, tmp_path / "adapted")
    assert set(done.max_difference.values()) == {0.0}
    assert len(done.max_difference) == 3
    assert done.student_hash != done.teacher_hash

    model = timm.create_model(f"local-dir:{tmp_path / 'adapted'}", pretrained=True)
    assert hash_weights(model) == done.student_hash == hash_weights(run.student)
    assert [(k, v.shape) for k, v in model.state_dict().items()] == [
        (k, v.shape) for k, v in run.teacher.state_dict().items()
    ]
    assert torch.equal(model.head.weight, run.teacher.head.weight)
    config = json.loads((tmp_path / "adapted" / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == list(run.teacher.pretrained_cfg["mean"])


def test_the_card_names_teacher_scores_and_settings(run, tmp_path):
    done = export_timm(run, tmp_path / "adapted")
    card = (tmp_path / "adapted" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    for text in (
        done.teacher_hash[:16],
        "val/gap_closed",
        "shift_radius: 1",
        "9 sub-patch",
        f"{done.num_parameters:,}",
    ):
        assert text in card


def test_the_script_that_checks_the_export_never_imports_this_package(run, tmp_path):
    export_timm(run, tmp_path / "adapted")
    save_file({"x": torch.zeros(1, 3, 32, 32)}, tmp_path / "in.safetensors")
    script = Path(timm_folder.plain_timm.__file__)
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__');"
        "print([m for m in sys.modules if m.startswith('srt_distill')])"
    )
    words = [script, tmp_path / "adapted", tmp_path / "in.safetensors", tmp_path / "out.safetensors"]
    result = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert load_file(tmp_path / "out.safetensors")["x"].shape == (1, 17, 24)


def test_an_export_that_differs_is_not_written(run, tmp_path, monkeypatch):
    export_timm(run, tmp_path / "adapted")
    before = (tmp_path / "adapted" / "model.safetensors").read_bytes()

    def save_another(model, folder):
        other = torch.nn.Module.state_dict(model)
        save_backbone(model, folder)
        save_file({k: v + 1e-3 if k == "norm.bias" else v for k, v in other.items()}, folder / "model.safetensors")

    save_backbone = timm_folder.save_backbone
    monkeypatch.setattr(timm_folder, "save_backbone", save_another)
    with pytest.raises(RuntimeError, match=r"differs from the student by up to 0.00"):
        export_timm(run, tmp_path / "adapted")
    assert (tmp_path / "adapted" / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["adapted"]


def test_a_full_disk_leaves_the_old_export(run, tmp_path, monkeypatch):
    export_timm(run, tmp_path / "adapted")
    before = (tmp_path / "adapted" / "model.safetensors").read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(timm_folder, "write_card", fail)
    with pytest.raises(OSError, match="No space left"):
        export_timm(run, tmp_path / "adapted")
    assert (tmp_path / "adapted" / "model.safetensors").read_bytes() == before


def test_an_unwritable_output_is_refused_first(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionError, match="cannot be written to"):
        export_timm(run, tmp_path / "file" / "adapted")
