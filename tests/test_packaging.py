"""What is shipped: the wheel, its metadata, and the files that state the same facts."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import srt_distill
from tests.distributions import install, read_metadata, require_whole, use

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def source(built: Path) -> Path:
    (path,) = built.glob("*.tar.gz")
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


def test_the_source_distribution_holds_what_is_tracked_and_nothing_that_lies_about(source):
    git = ["git", "ls-files", "-z"]
    tracked = set(subprocess.run(git, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")) - {""}
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
    assert {name for name in tracked if (ROOT / name).is_file()} <= held
    assert {name.partition("/")[0] for name in held} == {name.partition("/")[0] for name in tracked}


def test_both_state_version_licence_python_and_description(wheel, source):
    for path in (wheel, source):
        metadata = read_metadata(path)
        assert metadata["Version"] == PROJECT["project"]["version"]
        assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
        assert metadata["Requires-Python"] == ">=3.11"
        assert (ROOT / "README.md").read_text().strip() in metadata.get_payload().strip()


def test_the_wheel_answers_for_help_version_and_configs_without_dependencies(wheel, tmp_path):
    programs = install(wheel, tmp_path / "venv", borrow=True)
    (borrowed,) = (tmp_path / "venv").rglob("borrowed.pth")
    borrowed.unlink()
    require_whole(programs, tmp_path, PROJECT["project"]["version"])


def test_the_source_distribution_builds_installs_and_answers(source, tmp_path):
    require_whole(install(source, tmp_path / "venv", borrow=True), tmp_path, PROJECT["project"]["version"])


@pytest.mark.slow
def test_what_is_installed_works_outside_the_checkout(wheel, tmp_path):
    use(install(wheel, tmp_path / "venv", borrow=True), tmp_path)


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
