"""What several test files share."""

import os
from pathlib import Path

import pytest
import torch

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
