"""Loading backbones: names, folders, weights that fit and weights that do not."""

import json
import logging
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from srt_distill import hub
from srt_distill.backbone import (
    backbone_config,
    build_backbone,
    describe_backbone,
    hash_weights,
    load_backbone,
    nearest_models,
)
from tests.backbone.small import same, stored, tiny_folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "tiny")


def test_unknown_name_tells_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'vit_smal_patch16_224'.*vit_small_patch16_224"):
        load_backbone("vit_smal_patch16_224", pretrained=False)
    assert "vit_tiny_patch16_224" in nearest_models("vit_tny_patch16_224")


def test_unknown_tag_tells_the_known_ones():
    with pytest.raises(ValueError, match=r"no weights tagged 'dinoo'.*\bdino\b"):
        load_backbone("vit_small_patch16_224.dinoo")


def test_a_bare_folder_is_told_its_prefix(tiny: Path):
    with pytest.raises(ValueError, match=r"write local-dir:"):
        load_backbone(str(tiny))


def test_architecture_without_hub_weights_is_an_error():
    with pytest.raises(ValueError, match=r"weights=<file>, or pretrained=False"):
        load_backbone("test_vit_relpos")


def test_hub_out_of_reach_is_an_error_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"could not be fetched.*local-dir"):
        load_backbone("test_vit.r160_in1k")


def test_hub_repository_out_of_the_cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"hf-hub:someone/tiny could not be fetched.*local-dir"):
        load_backbone("hf-hub:someone/tiny")
    repository = tmp_path / "models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    shutil.copytree(tiny, repository / "snapshots" / "c0ffee")
    model = load_backbone("hf-hub:someone/tiny")
    assert same(model, stored(tiny))
    build_backbone(backbone_config(model)).load_state_dict(model.state_dict())
    assert "someone" not in json.dumps(backbone_config(model))


def test_random_weights_only_when_asked():
    first, second = (load_backbone("test_vit", pretrained=False) for _ in range(2))
    assert not first.training
    assert hash_weights(first) != hash_weights(second)
    with pytest.raises(ValueError, match="contradict"):
        load_backbone("test_vit", weights="some.pth", pretrained=False)


def test_folder_loads_its_weights_and_never_random_ones(tiny: Path):
    assert same(load_backbone(f"local-dir:{tiny}"), stored(tiny))
    (tiny / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights file"):
        load_backbone(f"local-dir:{tiny}")
    with pytest.raises(FileNotFoundError, match=r"no config.json"):
        load_backbone(f"local-dir:{tiny / 'absent'}")


def test_folder_of_something_else_is_an_error(tiny: Path):
    config = json.loads((tiny / "config.json").read_text())
    (tiny / "config.json").write_text(json.dumps({**config, "architecture": "vit_tony_patch16_224"}))
    with pytest.raises(ValueError, match=r"unknown model 'vit_tony_patch16_224'.*vit_tiny"):
        load_backbone(f"local-dir:{tiny}")
    (tiny / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="names no timm architecture"):
        load_backbone(f"local-dir:{tiny}")


def test_file_overrides_the_folder_weights(tiny: Path, tmp_path: Path):
    state = {key: value + 1 for key, value in stored(tiny).items()}
    save_file(state, tmp_path / "other.safetensors")
    assert same(load_backbone(f"local-dir:{tiny}", weights=tmp_path / "other.safetensors"), state)


def test_a_weights_file_in_the_home_folder(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    state = {key: value + 1 for key, value in stored(tiny).items()}
    save_file(state, tmp_path / "mine.safetensors")
    assert same(load_backbone(f"local-dir:{tiny}", weights="~/mine.safetensors"), state)


def test_every_fault_is_listed(tiny: Path, tmp_path: Path):
    state = stored(tiny)
    del state["blocks.0.norm1.weight"]
    state["norm.weight"] = torch.zeros(7)
    state["blocks.9.norm1.weight"] = torch.zeros(24)
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="does not fit") as caught:
        load_backbone(f"local-dir:{tiny}", weights=tmp_path / "bad.safetensors")
    message = str(caught.value)
    assert "missing blocks.0.norm1.weight (24,)" in message
    assert "mis-shaped norm.weight (7,), expected (24,)" in message
    assert "unexpected blocks.9.norm1.weight" in message


def test_weights_of_another_network_are_an_error(tiny: Path, tmp_path: Path):
    torch.save({f"layer{i}.weight": torch.zeros(3) for i in range(30)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"does not fit[\s\S]*and \d+ more"):
        load_backbone(f"local-dir:{tiny}", weights=tmp_path / "other.pth")


def test_another_patch_side_is_not_resampled_silently(tiny: Path, tmp_path: Path):
    state = stored(tiny)
    state["patch_embed.proj.weight"] = torch.zeros(24, 3, 16, 16)
    save_file(state, tmp_path / "p16.safetensors")
    with pytest.raises(ValueError, match=r"patch_embed.proj.weight is \(24, 3, 16, 16\) in the file"):
        load_backbone(f"local-dir:{tiny}", weights=tmp_path / "p16.safetensors")


def test_position_table_of_another_grid_is_resampled_as_timm_does(tiny: Path, tmp_path: Path):
    state = stored(tiny)
    table = torch.randn(1, 1 + 36, 24)
    save_file({**state, "pos_embed": table}, tmp_path / "grid6.safetensors")
    model = load_backbone(f"local-dir:{tiny}", weights=tmp_path / "grid6.safetensors")
    expected = timm.layers.resample_abs_pos_embed(table, [4, 4], num_prefix_tokens=1)
    assert torch.equal(model.get_parameter("pos_embed"), expected)
    assert torch.equal(model.get_parameter("norm.weight"), state["norm.weight"])


@pytest.mark.parametrize("num_classes", [0, 5])
def test_head_is_kept_where_the_file_has_one(tiny: Path, tmp_path: Path, num_classes: int):
    state = stored(tiny)
    if num_classes:
        state |= {"head.weight": torch.randn(num_classes, 24), "head.bias": torch.randn(num_classes)}
    save_file(state, tmp_path / "w.safetensors")
    model = load_backbone(f"local-dir:{tiny}", weights=tmp_path / "w.safetensors")
    assert same(model, state)
    assert describe_backbone(model).has_head == bool(num_classes)


def test_saved_head_survives_the_folder(tmp_path: Path):
    folder = tiny_folder(tmp_path / "headed", num_classes=7)
    model = load_backbone(f"local-dir:{folder}")
    assert same(model, stored(folder))
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_real_deit_tiny(shared_data: Path, caplog: pytest.LogCaptureFixture):
    file = shared_data / "weights" / "deit_tiny_patch16_224.safetensors"
    with caplog.at_level(logging.WARNING):
        model = load_backbone("deit_tiny_patch16_224", weights=file)
    assert [record for record in caplog.records if "no mean and std" not in record.getMessage()] == []
    info = describe_backbone(model)
    assert (info.name, info.patch_size, info.num_layers, info.num_features) == ("deit_tiny_patch16_224", 16, 12, 192)
    assert info.mean == (0.485, 0.456, 0.406)
    assert info.std == (0.229, 0.224, 0.225)
    assert info.num_parameters == 5_717_416
    assert info.has_head
    assert info.fixed_size is None
    with pytest.raises(ValueError, match="does not fit vit_small_patch16_224"):
        load_backbone("vit_small_patch16_224", weights=file)


def test_mean_and_std_of_weights_that_state_none_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    state = load_backbone("test_vit", pretrained=False).state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    for _ in range(2):
        load_backbone("test_vit", weights=tmp_path / "mine.safetensors")
    (record,) = caplog.records
    assert "mine.safetensors" in record.getMessage()
    assert "mean (0.5, 0.5, 0.5)" in record.getMessage()
    caplog.clear()
    load_backbone("test_vit.r160_in1k", weights=tmp_path / "mine.safetensors")  # these mean and std were asked for
    assert not caplog.records


class Answer(threading.Thread):
    """A server that answers every request alike, or not at all."""

    def __init__(self, answer: bytes | None):
        super().__init__(daemon=True)
        self.answer, self.server, self.open = answer, socket.create_server(("127.0.0.1", 0)), []
        self.address = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        self.start()

    def run(self):
        while True:
            client, _ = self.server.accept()
            self.open.append(client)
            if self.answer is not None:
                client.recv(4096)
                client.sendall(self.answer)
                client.close()


REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "hf-hub:someone/tiny"])
@pytest.mark.parametrize(
    ("answer", "reason"), [(REFUSAL, "407"), (None, "timed out|no answer"), (b"refuse", "refused")]
)
def test_a_hub_out_of_reach_is_said_at_once(
    name: str, answer: bytes | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from huggingface_hub import close_session, constants

    address = "http://127.0.0.1:9" if answer == b"refuse" else Answer(answer).address
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    for variable in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(variable, address)
    for variable in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    close_session()  # the next one sees the proxy
    start = time.monotonic()
    with pytest.raises(OSError, match=rf"out of reach \(.*({reason}).*local-dir.*HTTPS_PROXY=http://USER"):
        load_backbone(name)
    assert time.monotonic() - start < 10
    assert constants.HF_HUB_OFFLINE is False
    close_session()
