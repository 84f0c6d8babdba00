"""What is shipped: the wheel, its metadata, and the files that state the same facts."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import srt_distill

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[><=!~; ]", text)[0].lower().replace("_", "-") for text in requirements}


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = f"srt_distill-{PROJECT['project']['version']}.dist-info"
    assert f"{info}/licenses/LICENSE" in names
    homes = {"srt_distill": ROOT / "srt_distill", "srt_distill/configs": ROOT / "configs"}
    wanted = {
        f"{home}/{path.relative_to(folder).as_posix()}"
        for home, folder in homes.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted == {name for name in names if not name.startswith(info)}
    assert {"srt_distill/py.typed", "srt_distill/configs/distill/default.yaml"} < names


def test_the_wheel_states_licence_and_python(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    for line in ("License-Expression: Apache-2.0", "License-File: LICENSE", "Requires-Python: >=3.11"):
        assert line in metadata.splitlines()


def test_the_wheel_alone_answers_for_help_and_version(wheel, tmp_path):
    """No dependency is installed: naming commands and version needs none."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv" / "bin"
    install = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True)
    help_text = subprocess.run([str(binaries / "srt-distill"), "--help"], capture_output=True, text=True, check=True)
    assert "usage: srt-distill COMMAND" in help_text.stdout
    code = "import srt_distill; print(srt_distill.__version__)"
    version = subprocess.run([str(binaries / "python"), "-c", code], capture_output=True, text=True, check=True)
    assert version.stdout.strip() == PROJECT["project"]["version"]


def test_what_is_imported_is_declared():
    """Installed on its own, the package must find all that it imports, in its dependencies or an extra."""
    distributions = importlib.metadata.packages_distributions()
    project = PROJECT["project"]
    declared = requirement_names(project["dependencies"])
    declared |= {name for extra in project["optional-dependencies"].values() for name in requirement_names(extra)}
    missing = set()
    for path in (ROOT / "srt_distill").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            for top in {module.split(".")[0] for module in modules} - {"srt_distill", ""} - sys.stdlib_module_names:
                homes = {name.lower().replace("_", "-") for name in distributions.get(top, [top])}
                if not homes & declared:
                    missing.add(f"{path.relative_to(ROOT)} imports {top} of {', '.join(sorted(homes))}")
    assert not missing


def test_version_and_method_are_the_same_wherever_they_are_stated():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = PROJECT["project"]["version"]
    assert version == citation["version"] == srt_distill.__version__
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["preferred-citation"]["url"] == PROJECT["project"]["urls"]["Paper"]


def test_hooks_and_checks_use_the_same_formatter():
    """Two versions of a formatter take turns at undoing each other's work."""
    hooks = {
        hook["repo"].rsplit("/", 1)[-1]: hook
        for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    }
    ruff = next(text for text in PROJECT["dependency-groups"]["check"] if text.startswith("ruff"))
    assert hooks["ruff-pre-commit"]["rev"] == ruff.replace("ruff~=", "v")


def test_workflows_call_make_targets_and_pin_their_actions():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            for step in job["steps"]:
                if "uses" in step:
                    assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]), (path.name, step["uses"])
                elif step["run"].startswith("make"):
                    assert step["run"].split()[1] in targets
    for line in (ROOT / ".ci" / "run").read_text().splitlines():
        if line.startswith("make"):
            assert line.split()[1] in targets
