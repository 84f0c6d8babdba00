"""The configs that come with the package, by name: `default`, the default recipe, and those that change it.

Shape legend: none.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
DEFAULT = "default"


def config_folder() -> Path:
    """Return where the configs lie: in an installed package inside it, in a checkout beside it."""
    installed = PACKAGE / "configs" / "distill"
    return installed if installed.is_dir() else PACKAGE.parent / "configs" / "distill"


def list_configs() -> list[str]:
    """Return the names of all configs."""
    return sorted(path.stem for path in config_folder().glob("*.yaml"))


def find_config(name: str) -> Path:
    """Find a config by its path, or by its name among those of the package.

    Raises:
        FileNotFoundError: If there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name in list_configs():
        return config_folder() / f"{name}.yaml"
    raise FileNotFoundError(f"no config {name}: neither a file nor one of the package's {', '.join(list_configs())}")
