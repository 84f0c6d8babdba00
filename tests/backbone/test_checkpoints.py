"""Weights files of the original releases: every layout a user may hold, built small here."""

import argparse
import logging
import pickle
import re
import shlex
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from srt_distill.backbone import build_backbone, load_backbone, save_backbone
from srt_distill.backbone.checkpoints import read_weights
from tests.backbone.small import same, stored, tiny_folder

State = dict[str, torch.Tensor]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny") / "tiny")


DINO_HEAD = {"head.mlp.0.weight": torch.zeros(8, 24), "head.last_layer.weight_g": torch.zeros(8, 1)}


def dino_release(state: State) -> object:
    return state


def dino_training(state: State) -> object:
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    return {
        "student": prefixed({**other, **DINO_HEAD}, "module.backbone."),
        "teacher": {**prefixed(state, "backbone."), **DINO_HEAD},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
        "args": argparse.Namespace(arch="vit_tiny", patch_size=8),
    }


def mae_pretraining(state: State) -> object:
    decoder = {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, 17, 8),
        "decoder_embed.weight": torch.zeros(8, 24),
        "decoder_blocks.0.norm1.weight": torch.zeros(8),
        "decoder_norm.weight": torch.zeros(8),
        "decoder_pred.bias": torch.zeros(8),
    }
    return {"model": {**state, **decoder}, "epoch": 1, "args": argparse.Namespace(model="mae")}


def deit_release(state: State) -> object:
    return {"model": state}


def parallel_training(state: State) -> object:
    return {"epoch": 1, "state_dict": prefixed(state, "module.")}


def moving_average(state: State) -> object:
    return {"state_dict": {key: value * 0 for key, value in state.items()}, "state_dict_ema": state}


def compiled_encoder(state: State) -> object:
    return {"state_dict": {**prefixed(state, "_orig_mod.model.encoder."), "_orig_mod.model.decoder.w": torch.zeros(2)}}


def chunked_blocks(state: State) -> object:
    def chunk(key: str) -> str:
        return (
            key.replace("blocks.", "blocks.0.") if key.startswith("blocks.0.") else key.replace("blocks.", "blocks.1.")
        )

    return {
        "teacher": {
            **prefixed({chunk(key): value for key, value in state.items()}, "backbone."),
            "dino_head.w": torch.zeros(2),
        }
    }


@pytest.mark.parametrize(
    ("layout", "ignored"),
    [
        (dino_release, None),
        (dino_training, r"head \(2\)"),
        (mae_pretraining, r"decoder_blocks \(1\)"),
        (deit_release, None),
        (parallel_training, None),
        (moving_average, None),
        (compiled_encoder, r"_orig_mod \(1\)"),
        (chunked_blocks, r"dino_head \(1\)"),
    ],
)
def test_release_layouts(layout, ignored, tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    state = stored(tiny)
    torch.save(layout(state), tmp_path / "release.pth")
    with caplog.at_level(logging.WARNING):
        model = load_backbone(f"local-dir:{tiny}", weights=tmp_path / "release.pth")
    assert same(model, state)
    assert ("ignored" in caplog.text) == (ignored is not None)
    if ignored:
        assert re.search(ignored, caplog.text)


PYRAMID = {"embed_dims": (24, 48, 48, 96), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)}


@pytest.mark.parametrize(
    ("name", "args", "key"),
    [
        ("test_efficientnet", {}, "blocks.1.0.conv_exp.weight"),
        ("davit_tiny", PYRAMID, "stages.0.blocks.0.0.norm1.weight"),
    ],
)
def test_blocks_in_stages_are_no_chunks(name: str, args: dict, key: str, tmp_path: Path):
    model = build_backbone({"architecture": name, "model_args": args, "num_classes": 0})
    assert key in model.state_dict()
    save_backbone(model, tmp_path)
    assert same(load_backbone(f"local-dir:{tmp_path}"), model.state_dict())


def test_dinov2_with_registers(tmp_path: Path):
    folder = tiny_folder(tmp_path / "reg", "vit_small_patch14_reg4_dinov2", patch_size=14, img_size=56)
    state = stored(folder)
    class_position, class_token = torch.randn(1, 1, 24), torch.randn(1, 1, 24)
    release = {key: value for key, value in state.items() if key not in ("reg_token", "cls_token", "pos_embed")}
    release |= {
        "register_tokens": state["reg_token"],
        "cls_token": class_token,
        "pos_embed": torch.cat([class_position, state["pos_embed"]], dim=1),
        "mask_token": torch.zeros(1, 24),
    }
    torch.save(release, tmp_path / "dinov2.pth")
    model = load_backbone(f"local-dir:{folder}", weights=tmp_path / "dinov2.pth")
    assert same(model, {**state, "cls_token": class_token + class_position})


def test_dinov2_giant_feed_forward(tmp_path: Path):
    folder = tiny_folder(tmp_path / "giant", "vit_giant_patch14_dinov2", patch_size=14, img_size=56)
    state = stored(folder)
    assert "blocks.0.mlp.fc1.weight" in state
    release = {key.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): value for key, value in state.items()}
    torch.save({**release, "mask_token": torch.zeros(1, 24)}, tmp_path / "dinov2.pth")
    assert same(load_backbone(f"local-dir:{folder}", weights=tmp_path / "dinov2.pth"), state)


def test_deit3_layer_scale(tmp_path: Path):
    folder = tiny_folder(tmp_path / "deit3", "deit3_small_patch16_224", num_classes=5)
    state = stored(folder)
    assert "blocks.0.ls1.gamma" in state
    release = {
        key.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): value for key, value in state.items()
    }
    torch.save({"model": release}, tmp_path / "deit3.pth")
    assert same(load_backbone(f"local-dir:{folder}", weights=tmp_path / "deit3.pth"), state)


def test_registers_are_not_dropped_silently(tiny: Path, tmp_path: Path):
    torch.save({**stored(tiny), "reg_token": torch.zeros(1, 4, 24)}, tmp_path / "reg.pth")
    with pytest.raises(ValueError, match="unexpected reg_token"):
        load_backbone(f"local-dir:{tiny}", weights=tmp_path / "reg.pth")


def test_two_backbones_in_one_flat_file_are_ambiguous(tiny: Path, tmp_path: Path):
    state = stored(tiny)
    torch.save({**prefixed(state, "teacher."), **prefixed(state, "student.")}, tmp_path / "both.pth")
    with pytest.raises(ValueError, match=r"more than one backbone.*'student\.'"):
        load_backbone(f"local-dir:{tiny}", weights=tmp_path / "both.pth")


def convert(message: str) -> None:
    """Do what the line that a refusal prints does when a user runs it, having decided to trust the file."""
    python, option, program, *files = shlex.split(message.splitlines()[-1])
    assert (python, option) == ("python", "-c")
    with patch.object(sys, "argv", ["-c", *files]):
        exec(program, {})


class Payload:
    """What a pickle from a stranger may do."""

    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


def test_pickle_with_code_is_refused_and_not_run(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": stored(tiny), "extra": Payload()}, "evil.pth")
    with pytest.raises(ValueError, match=r"is refused.*pathlib[\s\S]*safetensors") as caught:
        load_backbone(f"local-dir:{tiny}", weights="evil.pth")
    assert not Path("touched").exists()
    convert(str(caught.value))
    assert Path("touched").exists()
    assert same(load_backbone(f"local-dir:{tiny}", weights="evil.safetensors"), stored(tiny))


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.pth"])
def test_unreadable_files(name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match=name):
        read_weights(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_weights(tmp_path / f"absent_{name}")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"model": {"epoch": 3}}])
def test_files_without_tensors(content, tmp_path: Path):
    torch.save(content, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        read_weights(tmp_path / "empty.pth")


def test_plain_pickle_is_refused(tmp_path: Path):
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"model": Payload()}, protocol=2))
    with pytest.raises(ValueError, match=r"old\.pth"):
        read_weights(tmp_path / "old.pth")


def test_a_whole_pickled_model_can_be_converted(tiny: Path, tmp_path: Path):
    torch.save({"model": torch.nn.Linear(2, 3), "epoch": 1}, tmp_path / "it's whole.pth")
    with pytest.raises(ValueError, match=r"is refused.*Linear") as caught:
        read_weights(tmp_path / "it's whole.pth")
    convert(str(caught.value))
    assert read_weights(tmp_path / "it's whole.safetensors").keys() == {"weight", "bias"}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "called"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 22883344\n",
            "Git LFS pointer.*git lfs pull",
        ),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n", "web page"),
        (b"  \n<html lang='en'>" + "é".encode() * 300, "web page"),
        (b'{"error": "Entry not found"}', "is a text"),
        ("Zugriff verweigert: für diese Datei. ".encode() * 40, "is a text"),
        (b"", "is empty"),
    ],
)
def test_files_without_weights_are_called_what_they_are(suffix: str, content: bytes, called: str, tmp_path: Path):
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=called) as caught:
        read_weights(file)
    assert "weights_only" not in str(caught.value)


def test_flipped_bytes_are_found(tiny: Path, tmp_path: Path):
    file = tmp_path / "weights.pth"
    torch.save(stored(tiny), file)
    whole = file.read_bytes()
    assert same(load_backbone(f"local-dir:{tiny}", weights=file), stored(tiny))
    for place in range(len(whole) // 3, len(whole) // 2, 997):
        damaged = bytearray(whole)
        damaged[place : place + 4] = bytes(byte ^ 0x41 for byte in damaged[place : place + 4])
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"weights\.pth is (damaged|cut short)"):
            read_weights(file)
    file.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"weights\.pth is cut short"):
        read_weights(file)


@pytest.mark.parametrize(
    "prefix", ["student_backbone.", "_fsdp_wrapped_module.", "my_model.image_tower.", "a.b.c.d.", "blocks."]
)
def test_any_single_prefix_is_taken(prefix: str, tiny: Path, tmp_path: Path):
    torch.save({**prefixed(stored(tiny), prefix), "other.norm.weight": torch.zeros(24)}, tmp_path / "w.pth")
    assert same(load_backbone(f"local-dir:{tiny}", weights=tmp_path / "w.pth"), stored(tiny))


def test_foreign_names_are_shown(tiny: Path, tmp_path: Path):
    state = {f"stage7.unit{number}.kernel": value for number, value in enumerate(stored(tiny).values())}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"does not fit[\s\S]*stage7\.unit0\.kernel, .*and \d+ more"):
        load_backbone(f"local-dir:{tiny}", weights=tmp_path / "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, tiny: Path, tmp_path: Path):
    state = stored(tiny)
    state["blocks.1.mlp.fc1.bias"][3] = value
    torch.save(state, tmp_path / "diverged.pth")
    with pytest.raises(ValueError, match=r"diverged\.pth holds NaN or infinity in 1 of .* blocks\.1\.mlp\.fc1\.bias"):
        load_backbone(f"local-dir:{tiny}", weights=tmp_path / "diverged.pth")
