"""Nothing in the package reads a file in a way that could run code from it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(ROOT / "srt_distill").rglob("*.py"), *(ROOT / "recipes").rglob("*.py")])
# what opens a pickle, and the argument that keeps it to tensors and plain values
READERS = {"torch.load": "weights_only", "load_from_checkpoint": "weights_only"}
FORBIDDEN = ("pickle.load", "pickle.loads", "joblib.load", "yaml.load", "yaml.unsafe_load", "eval", "exec")


def unsafe_calls(source: str) -> Iterator[str]:
    """Calls that may run code out of a file, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        needed = next((argument for reader, argument in READERS.items() if name.endswith(reader)), None)
        if needed is not None and arguments.get(needed) != "True":
            yield f"line {node.lineno}: {name} without {needed}=True"
        if name in FORBIDDEN or arguments.get("allow_pickle") == "True":
            yield f"line {node.lineno}: {name}"
        if name.endswith("trainer.fit") and "ckpt_path" in arguments and arguments.get("weights_only") != "True":
            yield f"line {node.lineno}: resumes without weights_only=True"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_are_read_as_data(file: Path):
    assert list(unsafe_calls(file.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "Module.load_from_checkpoint(path)",
        "pickle.load(file)",
        "np.load(path, allow_pickle=True)",
        "yaml.unsafe_load(text)",
        "trainer.fit(model, ckpt_path=path)",
    ],
)
def test_what_the_search_finds(line: str):
    assert len(list(unsafe_calls(line))) == 1
