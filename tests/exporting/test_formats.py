"""Every format: equal to the student, for any number of images of any size, and free of this package."""

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from srt_distill.backbone import build_backbone
from srt_distill.exporting import export_student, onnx_file, student, tracing, verification
from srt_distill.exporting.verification import expect_features

BARS = {"timm": 0.0, "Transformers, timm wrapper": 0.0, "torch.export": 1e-5, "ONNX": 1e-4}


@pytest.fixture(scope="module")
def other():
    """Five images of a size that nothing was checked at."""
    return torch.randn(5, 3, 48, 104, generator=torch.Generator().manual_seed(7))


def test_every_format_is_within_its_bar_at_three_sizes(exported):
    proofs = {proof.format: proof for proof in exported.proofs}
    assert {name: proofs[name].bar for name in BARS} == BARS
    for proof in proofs.values():
        assert list(proof.differences) == ["32x32", "80x120", "136x48"]
        assert max(proof.differences.values()) <= proof.bar
    record = json.loads((exported.folder / "parity.json").read_text())
    assert {proof["format"] for proof in record["proofs"]} == set(proofs)
    card = (exported.folder / "README.md").read_text()
    assert all(f"| {name} | `" in card for name in proofs)


def test_onnx_takes_any_number_of_images_of_any_size(run, exported, other):
    session = onnxruntime.InferenceSession(exported.folder / "model.onnx")
    (given,) = session.get_inputs()
    assert [type(side) for side in given.shape] == [str, int, str, str]
    (features,) = session.run(["features"], {"images": other.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(features), run.student.forward_features(other), atol=1e-4, rtol=0)


def test_torch_program_takes_any_number_of_images_of_any_size(run, exported, other):
    program = torch.export.load(exported.folder / "model.pt2").module()
    with torch.inference_mode():
        torch.testing.assert_close(program(other), run.student.forward_features(other), atol=1e-5, rtol=0)
        with pytest.raises(Exception, match=r"(?i)guard|expected|constraint|divisible"):
            program(other[..., :100])


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_no_path_of_the_machine_is_in_the_files(exported, name):
    assert str(Path(verification.__file__).parents[2]).encode() not in (exported.folder / name).read_bytes()
    assert str(Path(torch.__file__).parents[2]).encode() not in (exported.folder / name).read_bytes()


def test_the_scripts_import_no_more_than_they_show(exported, tmp_path):
    save_file({"x": torch.zeros(1, 3, 32, 32)}, tmp_path / "in.safetensors")
    code = """
import json, runpy, sys
for script, path, inputs, outputs in json.loads(sys.argv[1]):
    sys.argv = [script, path, inputs, outputs]
    runpy.run_path(script, run_name="__main__")
    print([name for name in ("srt_distill", "torch", "timm", "transformers") if name in sys.modules])
"""
    files = {"plain_onnx.py": "model.onnx", "plain_torch.py": "model.pt2", "plain_transformers.py": "."}
    calls = [
        [
            str(verification.SCRIPTS / script),
            str(exported.folder / file),
            str(tmp_path / "in.safetensors"),
            str(tmp_path / str(index)),
        ]
        for index, (script, file) in enumerate(files.items())
    ]
    words = [sys.executable, "-c", code, json.dumps(calls)]
    result = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert result.stdout.splitlines() == ["[]", "['torch']", "['torch', 'timm', 'transformers']"]
    for index in range(len(files)):
        assert load_file(tmp_path / str(index))["x"].shape == (1, 17, 24)


def test_onnx_beyond_its_bar_is_refused(run, tmp_path, monkeypatch):
    def compute_another(script, arguments, images):
        return {name: value + 2e-4 for name, value in expected.features.items()}

    expected = expect_features(run.student)
    program = tracing.trace_backbone(expected.model)
    monkeypatch.setattr(onnx_file, "run_apart", compute_another)
    with pytest.raises(RuntimeError, match=r"as an ONNX file differs from .* by up to 0.0002\d*, more than 0.0001"):
        onnx_file.write_onnx(program, expected, tmp_path)


def test_a_model_that_branches_on_what_it_sees_cannot_be_traced():
    args = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    model = build_backbone({"architecture": "vit_tiny_patch16_224", "model_args": args, "num_classes": 0})
    plain = model.forward_features
    vars(model)["forward_features"] = lambda images: plain(images) * (2 if images.mean() > 0 else 1)
    with pytest.raises(RuntimeError, match=r"vit_tiny_patch16_224 cannot be traced for .*: .*leave out"):
        tracing.trace_backbone(model)


def test_a_missing_library_is_said_before_any_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr(verification.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(student, "expect_features", lambda _: pytest.fail("work was begun"))
    with pytest.raises(ImportError, match=r"format onnx needs onnx, onnxscript, onnxruntime.*srt-distill\[export\]"):
        export_student(run, tmp_path / "adapted", ["onnx"])
    assert list(tmp_path.iterdir()) == []


def test_importing_the_room_needs_no_optional_library():
    optional = ("transformers", "onnx", "onnxscript", "onnxruntime")
    code = f"import sys, srt_distill.exporting; print([name for name in {optional} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
