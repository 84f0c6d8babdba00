"""Notebooks: valid, without outputs, linked, and their code runs from top to bottom."""

import json
import re
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "recipes" / "notebooks").glob("*.ipynb"))
SMALL = {
    "adapt_and_look": {"STEPS": 2, "SIZE": 64},
    "dense_retrieval": {"CROPS": 2, "PHOTOS": 2, "SIDE": 96},
}
"""Settings of a notebook's first cell, in sizes for a test."""


def read_cells(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def run(path: Path, settings: dict[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict:
    """Run a notebook's code in one namespace, in its folder; files go to the test's."""
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    monkeypatch.syspath_prepend(str(path.parent))  # what the notebook puts on the path goes with it
    plt.switch_backend("agg")
    first, *rest = read_cells(path, "code")
    for name, value in settings.items():
        first, found = re.subn(rf"^{name} = \d+", f"{name} = {value}", first, flags=re.MULTILINE)
        assert found == 1, name
    names: dict = {"__name__": "__main__"}
    for number, text in enumerate([first, *rest]):
        exec(compile(text, f"{path.name}, code cell {number}", "exec"), names)
    return names


def test_each_is_tested():
    assert {path.stem for path in NOTEBOOKS} == set(SMALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_a_notebook_without_outputs(path):
    """Nbformat 4.5: every cell has an id, and code cells their outputs and counts, here none."""
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", cell["id"])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
        else:
            assert set(cell) == {"cell_type", "id", "metadata", "source"}
    assert notebook["cells"][0]["cell_type"] == "markdown"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_code_runs_from_top_to_bottom(path, monkeypatch, tmp_path, capsys):
    run(path, SMALL[path.stem], monkeypatch, tmp_path)
    said = capsys.readouterr().out
    assert {"adapt_and_look": "gap closed on held-out images", "dense_retrieval": "of tokens are found"}[
        path.stem
    ] in said


@pytest.mark.slow
def test_what_the_notebooks_say_holds(monkeypatch, tmp_path, capsys):
    """In full size, the student is nearer to SRT, and SRT finds more places again."""
    adapted = run(ROOT / "recipes/notebooks/adapt_and_look.ipynb", {}, monkeypatch, tmp_path)
    assert adapted["result"].scores["val/gap_closed"] > 0.1
    run(ROOT / "recipes/notebooks/dense_retrieval.ipynb", {}, monkeypatch, tmp_path)
    single, srt = (float(share) for share in re.findall(r"([\d.]+)% of tokens are found", capsys.readouterr().out))
    assert srt > single + 3


def test_pages_lead_to_them():
    text = "\n".join((ROOT / page).read_text() for page in ("README.md", "docs/quick_start.md"))
    for path in NOTEBOOKS:
        assert text.count(path.relative_to(ROOT).as_posix()) == 2, path.name
