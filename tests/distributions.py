"""Wheel and source distribution, installed as a user would and used from outside the checkout.

`python tests/distributions.py dist/*` (`make installed`) gives each an environment of its own with its dependencies from
the package index; tests/test_packaging.py borrows those of the environment that it runs in.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import numpy as np
from packaging.metadata import Metadata
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
BACKBONE = ROOT / "checkpoints" / "demo"
CONFIGS = "from srt_distill.training.configs import find_config, list_configs as names; print(*map(find_config, names()))"


def read_metadata(distribution: Path) -> Message:
    """Read METADATA of a wheel or PKG-INFO of a source distribution, and refuse what a package index would.

    Raises:
        ExceptionGroup: If a field is not valid.
        ValueError: If there is no description, or not in Markdown.
    """
    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            text = archive.read(name).decode()
    else:
        with tarfile.open(distribution) as archive:
            (name,) = [name for name in archive.getnames() if name.count("/") == 1 and name.endswith("/PKG-INFO")]
            file = archive.extractfile(name)
            assert file is not None
            text = file.read().decode()
    Metadata.from_email(text, validate=True)
    found = Parser().parsestr(text)
    if not str(found.get_payload()).strip() or found["Description-Content-Type"] != "text/markdown":
        raise ValueError(f"{distribution.name} has no description in Markdown; see readme in pyproject.toml")
    return found


def install(distribution: Path, folder: Path, borrow: bool) -> Path:
    """Install a distribution in a new environment.

    Args:
        distribution: A wheel, or a source distribution, which is built.
        folder: Of the environment.
        borrow: Take dependencies from this interpreter's environment, instead of installing them.

    Returns:
        Its folder of programs.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", str(distribution)]
    subprocess.run([*pip, *(["--no-deps", "--no-index", "--no-build-isolation"] if borrow else [])], check=True)
    if borrow:
        (site,) = (folder / "lib").glob("python*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    else:
        subprocess.run([*pip[:5], "check"], check=True)
    return folder / "bin"


def use(programs: Path, folder: Path, version: str, adapt: bool) -> None:
    """Use what is installed as from anywhere: version, help, configs, features of images; then the whole job.

    Args:
        programs: Of the environment.
        folder: To work in.
        version: That it must be of.
        adapt: Whether the whole job is done too, which takes a minute.

    Raises:
        CalledProcessError: If a command fails.
        AssertionError: If it answers what it should not.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*words: str | Path) -> str:
        program, *rest = map(str, words)
        command = [str(programs / program), *rest]
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.strip()

    shutil.copytree(BACKBONE, folder / "backbone")
    (folder / "images").mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")

    assert call("srt-distill", "--version") == version
    assert "usage: srt-distill COMMAND" in call("srt-distill", "--help")
    configs = [Path(path) for path in call("python", "-c", CONFIGS).split()]
    assert {path.name for path in configs} == {path.name for path in (ROOT / "configs" / "distill").glob("*.yaml")}
    assert all(programs.parent in path.parents and path.is_file() for path in configs)
    words = ["--backbone", "local-dir:backbone", "--images", "images"]
    assert "features of 8 images" in call("srt-distill", "embed", *words, "--output", "features.parquet")
    if adapt:
        assert "Did it help?" in call("srt-distill", "adapt", *words, "--budget", "2", "--output", "adapted")
        assert (folder / "adapted" / "model" / "model.safetensors").is_file()


def main() -> None:
    """Check every distribution that is named."""
    parser = argparse.ArgumentParser(description="Install wheels and source distributions, and use them.")
    parser.add_argument("distributions", nargs="+", type=Path)
    parser.add_argument("--borrow", action="store_true", help="take dependencies from this environment")
    arguments = parser.parse_args()
    for distribution in arguments.distributions:
        version = read_metadata(distribution)["Version"]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "work"
            place.mkdir()
            use(install(distribution.resolve(), Path(folder) / "venv", arguments.borrow), place, version, adapt=True)
        print(f"{distribution.name}: valid, installed and used", flush=True)


if __name__ == "__main__":
    main()
