from pathlib import Path

import pytest

from tests.data.pictures import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eleven pictures, 00.png to 10.png."""
    root = tmp_path / "pictures"
    root.mkdir()
    for number in range(11):
        picture(number).save(root / f"{number:02}.png")
    return root
