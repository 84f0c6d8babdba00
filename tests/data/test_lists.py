import codecs
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srt_distill.data.lists import read_lines, read_names, table_format

NAMES = ["bear", "dance jump", "été", "車"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (b"", "utf-16-le"),
        (b"", "utf-16-be"),
    ],
)
def test_any_encoding_and_line_ending(tmp_path, mark, encoding, end):
    path = tmp_path / "list.txt"
    path.write_bytes(mark + end.join(["# a comment", "", *NAMES, "  bear  ", ""]).encode(encoding))
    assert read_lines(path) == [*NAMES, "bear"]
    assert read_names(path) == NAMES, "each once"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)))
def test_what_is_written_a_line_each_is_read(tmp_path_factory, names):
    names = [name for name in names if name[0] not in "#\"'" and name[-1] not in "\"'" and name[0] != "\ufeff"]
    path = tmp_path_factory.getbasetemp() / "list.txt"
    path.write_text("\n".join(names), encoding="utf-8")
    assert read_lines(path) == names


def test_names_that_are_not_utf_8_and_quotes(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"caf\xe9.png\n\"my photo.png\"\n'it''s.png'\nsay \"hi\"\n")
    assert read_lines(path) == [os.fsdecode(b"caf\xe9.png"), "my photo.png", "'it''s.png'", 'say "hi"']


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\0\0\0\rIHDR", codecs.BOM_UTF16_LE + b"abc", b"a\0b"])
def test_what_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"list .*list\.txt"):
        read_lines(path)


def test_pairs_of_davis_2016_name_their_sequences(tmp_path):
    path = tmp_path / "val.txt"
    frames = [(name, number) for name in ("bear", "dance jump") for number in range(3)]
    lines = [f"/JPEGImages/480p/{s}/{n:05}.jpg /Annotations/480p/{s}/{n:05}.png" for s, n in frames]
    path.write_text("\n".join(lines))
    assert read_names(path) == ["bear", "dance jump"]
    path.write_text("\n".join([*lines, "bus"]))
    with pytest.raises(ValueError, match="pairs of frame and mask.*'bus'.*give one or the other"):
        read_names(path)


@pytest.mark.parametrize("name", ["/data/bear", "../bear", "a/../../b", "C:\\bear", "\\\\server\\share"])
def test_a_split_list_never_leads_out_of_its_root(tmp_path, name):
    (tmp_path / "val.txt").write_text(f"bear\n{name}\n")
    with pytest.raises(ValueError, match="leads out of the folder of sequences"):
        read_names(tmp_path / "val.txt")


def test_an_empty_split_list_is_refused(tmp_path):
    (tmp_path / "val.txt").write_text("# nothing\n\n")
    with pytest.raises(ValueError, match="names no sequence; write one sequence name per line"):
        read_names(tmp_path / "val.txt")


@pytest.mark.parametrize(
    ("lines", "format"),
    [
        (["path,label", "a.png,0"], "CSV"),
        (["a.png\t0", "b.png\t1"], "TSV"),
        (["a.png;0"], "CSV"),
        (["a.png 0", "b.png 1"], "label"),
        (['{"path": "a.png"}'], "JSON"),
        (["a.png", "b, c.png"], None),
        ([], None),
    ],
)
def test_formats_are_named(lines, format):
    assert (table_format(lines) or "None").count(str(format)) == 1
