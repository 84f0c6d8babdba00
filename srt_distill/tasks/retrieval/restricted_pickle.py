"""Read a pickle of plain data without running any code that it names.

Shape legend: none.

The ground truth of revisited Oxford and Paris is published as pickles. A pickle is a program: it can name any function
of any module and call it. This reader knows containers, numbers, strings and numpy's arrays, and refuses the rest.
"""

import collections
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds nothing but plain data and arrays.

    Args:
        path: The file, of any pickle protocol, of Python 2 or 3.

    Raises:
        FileNotFoundError: If it is missing.
        ValueError: If it is damaged, or names anything but plain data; nothing of it is run.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; download it from the benchmark's page")
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is not read: {error}") from error
    except (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, OverflowError) as error:
        raise ValueError(f"{path} is not a whole pickle of plain data ({error}); download it again") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, and only containers, numbers, strings and numpy arrays are taken; get it "
                "from a source that you trust, and save it without such objects"
            )
        return found


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes | str) -> np.ndarray:
    """Stand in for numpy's `_reconstruct`: an array whose state follows."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError(f"it holds an array of type {kind!r}, and only plain arrays are taken")
    return np.ndarray.__new__(np.ndarray, shape, code if isinstance(code, str) else code.decode("latin1"))


def _filled_array(content: Any, kind: np.dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    """Stand in for numpy's `_frombuffer`, which protocol 5 writes arrays with."""
    if kind.hasobject:
        raise pickle.UnpicklingError("it holds the bytes of an array of objects, and only plain numbers are taken")
    return np.frombuffer(content, kind).reshape(shape, order="F" if order == "F" else "C")


def _number(kind: np.dtype, content: Any) -> Any:
    """Stand in for numpy's `scalar`."""
    if kind.hasobject:
        raise pickle.UnpicklingError("it holds a number of type object, and only plain numbers are taken")
    raw = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(raw, kind, count=1)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand in for `codecs.encode`, which Python 3 writes bytes with in old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes in encoding {encoding!r}, and only latin1 is taken")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _KNOWN[_module, "_reconstruct"] = _empty_array
    _KNOWN[_module, "scalar"] = _number
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _KNOWN[_module, "_frombuffer"] = _filled_array
for _module in ("builtins", "__builtin__"):
    _KNOWN.update({(_module, kind.__name__): kind for kind in (set, frozenset, bytes, bytearray, complex)})
