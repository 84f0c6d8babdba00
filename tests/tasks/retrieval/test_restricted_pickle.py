"""Ground truth without running code: what is read, and what is refused by name."""

import collections
import os
import pickle
import struct

import numpy as np
import pytest

from srt_distill.tasks.retrieval.restricted_pickle import read_plain_pickle

PLAIN = {
    "imlist": ["a", "ü"],
    "gnd": [{"bbx": np.array([1.5, 2, 3, 4]), "easy": np.array([], dtype=np.int64), "hard": [1], "junk": (2,)}],
    "more": [np.float64(0.5), np.int64(3), True, None, b"bytes", {1, 2}, frozenset({3}), bytearray(b"x"), 1 + 2j],
    "ordered": collections.OrderedDict(a=1),
    "text": np.array(["x", "yy"]),
    "objects": np.array([[1, 2], None], dtype=object),
}


class Evil:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_back(tmp_path, protocol):
    path = tmp_path / "gnd.pkl"
    path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    found = read_plain_pickle(path)
    assert found.keys() == PLAIN.keys() and found["imlist"] == PLAIN["imlist"] and found["more"] == PLAIN["more"]
    assert np.array_equal(found["gnd"][0]["bbx"], PLAIN["gnd"][0]["bbx"])
    assert found["gnd"][0]["easy"].dtype == np.int64 and len(found["gnd"][0]["easy"]) == 0
    assert found["text"].tolist() == ["x", "yy"] and found["ordered"] == PLAIN["ordered"]


def test_a_pickle_of_python_2_is_read(tmp_path):
    name = b"all_souls_1"
    path = tmp_path / "gnd.pkl"  # {'imlist': ['all_souls_1']}, as cPickle's protocol 2 writes a str
    path.write_bytes(b"\x80\x02}U\x06imlist]U" + struct.pack("B", len(name)) + name + b"as.")
    assert read_plain_pickle(path) == {"imlist": ["all_souls_1"]}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("evil", "named"),
    [
        (Evil(os.system, "touch {}"), "system"),
        (Evil(eval, "open('{}', 'w')"), "eval"),
        (Evil(getattr, os, "system"), "getattr"),
        (Evil(pickle.loads, b"N."), "loads"),
        (np.ma.masked_array([1.0]), "numpy.ma"),
    ],
)
def test_code_is_named_and_not_run(tmp_path, protocol, evil, named):
    mark = tmp_path / "mark"
    if isinstance(evil, Evil):
        evil.arguments = tuple(a.format(mark) if isinstance(a, str) else a for a in evil.arguments)
        if any(a is os for a in evil.arguments):
            evil.arguments = ("a string", "upper")
    path = tmp_path / "gnd.pkl"
    path.write_bytes(pickle.dumps({"imlist": [evil]}, protocol=protocol))
    with pytest.raises(ValueError, match=rf"gnd.pkl is not read: it names .*{named}.*source that you trust"):
        read_plain_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x02}", b"no pickle at all", b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\x7f."]
)
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "gnd.pkl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"gnd\.pkl"):
        read_plain_pickle(path)
    with pytest.raises(FileNotFoundError, match=r"none\.pkl"):
        read_plain_pickle(tmp_path / "none.pkl")
