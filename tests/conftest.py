"""What several test files share."""

import os
from pathlib import Path

import pytest
import torch

pytest_plugins = ["tests.adaptation.collections_of_images"]

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach a model hub


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real videos, masks and weights; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("real data (../shared/data) is not on this machine")
    return SHARED.resolve()


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of random numbers."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A timm folder with a two-block ViT, patch 8, random weights, a 5-class head and its own mean and std."""
    from srt_distill.backbone import build_backbone, save_backbone

    torch.manual_seed(0)
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    model = build_backbone({"architecture": "vit_tiny_patch16_224", "model_args": size, "num_classes": 5})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    folder = tmp_path_factory.mktemp("backbones") / "tiny"
    save_backbone(model, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAVIS folder with two training and two validation videos of five 64x96 frames, each with two moving squares."""
    from srt_distill.tasks.davis.example import write_example

    root = tmp_path_factory.mktemp("davis")
    write_example(root)
    return root
