"""Wheel and source distribution, installed as a user would and used from outside the checkout.

`python tests/distributions.py dist/*` (`make installed`) gives each an environment of its own with its dependencies
from the package index; tests/test_packaging.py borrows those of the environment that it runs in.
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
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    there = [*pip, "--python", str(folder / "bin" / "python")]
    alone = ["--no-deps", "--no-index", "--no-build-isolation"] if borrow else []
    if borrow and distribution.suffix != ".whl":  # the new environment has nothing to build with
        subprocess.run([*pip, "wheel", *alone, "--wheel-dir", str(folder / "wheel"), str(distribution)], check=True)
        (distribution,) = (folder / "wheel").glob("*.whl")
    subprocess.run([*there, "install", *alone, str(distribution)], check=True)
    if borrow:
        (site,) = (folder / "lib").glob("python*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    else:
        subprocess.run([*there, "check"], check=True)
    return folder / "bin"


def call(programs: Path, folder: Path, *words: str | Path) -> str:
    """Run a program of an environment in a folder, and give what it says."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(programs / words[0]), *map(str, words[1:])]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def require_whole(programs: Path, folder: Path, version: str) -> None:
    """Ask what is installed for version, help and configs.

    Raises:
        CalledProcessError: If a command fails.
        AssertionError: If it answers what it should not.
    """
    assert call(programs, folder, "srt-distill", "--version") == version
    assert "usage: srt-distill COMMAND" in call(programs, folder, "srt-distill", "--help")
    home = Path(call(programs, folder, "python", "-c", "import srt_distill; print(srt_distill.__path__[0])"))
    assert programs.parent in home.parents
    configs = {path.name for path in (home / "configs" / "distill").glob("*.yaml")}
    assert configs == {path.name for path in (ROOT / "configs" / "distill").glob("*.yaml")}


def use(programs: Path, folder: Path) -> None:
    """Do with what is installed what it is for: features of images, and the whole job; a minute.

    Raises:
        CalledProcessError: If a command fails.
        AssertionError: If it leaves nothing.
    """
    shutil.copytree(ROOT / "checkpoints" / "demo", folder / "backbone")
    (folder / "images").mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    words = ["--backbone", "local-dir:backbone", "--images", "images"]
    said = call(programs, folder, "srt-distill", "embed", *words, "--num_workers", "0", "--output", "features.parquet")
    assert "features of 8 images" in said
    said = call(programs, folder, "srt-distill", "adapt", *words, "--budget", "2", "--output", "adapted")
    assert "Did it help?" in said
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
            programs = install(distribution.resolve(), Path(folder) / "venv", arguments.borrow)
            require_whole(programs, place, version)
            use(programs, place)
        print(f"{distribution.name}: valid, installed and used", flush=True)


if __name__ == "__main__":
    main()
