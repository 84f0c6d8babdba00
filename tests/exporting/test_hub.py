"""Pushing to the hub: what is sent, and what is said when it cannot be. Nothing here leaves the machine."""

import functools
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from srt_distill.exporting import hub, push_folder, require_hub


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "README.md").write_text("a card")
    return tmp_path


def test_repository_then_one_commit_with_the_folder(folder, monkeypatch):
    calls = []

    def create(self, repo_id, **options):
        calls.append(("create", repo_id, options["private"], options["exist_ok"]))
        return f"https://hub.invalid/{repo_id}"

    def upload(self, *, repo_id, folder_path, commit_message):
        calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert push_folder(folder, "someone/mine", private=True) == "https://hub.invalid/someone/mine"
    assert calls == [("create", "someone/mine", True, True), ("upload", "someone/mine", ["README.md"])]


def test_a_hub_out_of_reach_leaves_the_way_to_push_later(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HfApi", functools.partial(HfApi, endpoint="http://127.0.0.1:9", token="hf_none"))
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9 is out of reach.*`hf upload someone/mine "):
        push_folder(folder, "someone/mine")


def test_a_refusal_is_said_as_one(folder, monkeypatch):
    def refuse(self, repo_id, **options):
        response: Any = SimpleNamespace(headers={}, request=None)  # the network library's, whichever it is
        raise HfHubHTTPError("403 Forbidden", response=response)

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(PermissionError, match=r"hub refused the push to someone/mine: 403 Forbidden; the token"):
        push_folder(folder, "someone/mine")


def test_name_and_token_are_checked_before_work(monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(ValueError, match="'mine' names no repository on the hub; write it as owner/name"):
        require_hub("mine")
    with pytest.raises(PermissionError, match="nobody is logged in.*hf auth login"):
        require_hub("someone/mine")
    monkeypatch.setattr(hub, "get_token", lambda: "hf_token")
    require_hub("someone/mine")
