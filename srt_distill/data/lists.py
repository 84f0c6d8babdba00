"""Lists that people write: one item per line, whatever editor or tool they come from.

    read_lines(path)            the items of any list, such as paths of images
    read_names(path)   the sequences of a split list in the layout of DAVIS
    read_text(path)             a whole file as UTF-8, for lists with a form of their own
    table_format(lines)         what a list that is none looks like: JSON, columns; for the message that refuses it

Text may be UTF-8 or UTF-16, with or without a mark of byte order, and end its lines as any system does. An item is a
whole line: it may hold spaces. Blank lines and lines that begin with # are passed over; quotes around a line fall away.
"""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

DAVIS_2016_PAIR = re.compile(r"/?JPEGImages/[^/]+/(?P<sequence>.+)/[^/]+\s+/?Annotations/\S.*")
"""A line of DAVIS-2016's lists: a frame and its mask, `/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/…`."""


def read_lines(path: Path) -> list[str]:
    """Read the items of a list, one per line, in order.

    Args:
        path: the list. Bytes that are no UTF-8 come back as `os.fsdecode` has them: they are a file's name.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no text.
    """
    lines = (line.strip() for line in re.split(r"\r\n|\n|\r", _decode(path)))
    return [_without_quotes(line) for line in lines if line and not line.startswith("#")]


def read_names(path: Path) -> list[str]:
    """Read the names of a split list, each once, in order.

    The lists of DAVIS-2016 name a frame and its mask per line; their sequences are taken.

    Args:
        path: the list, such as `ImageSets/2017/val.txt`.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no text or empty, if a line leads out of the folder of sequences, or if it mixes
            DAVIS-2016's pairs with names.
    """
    lines = read_lines(path)
    pairs = [DAVIS_2016_PAIR.fullmatch(line) for line in lines]
    if any(pairs):
        strangers = [line for line, pair in zip(lines, pairs, strict=True) if pair is None]
        if strangers:
            raise ValueError(
                f"split list {path} has pairs of frame and mask, as DAVIS-2016 writes them, and other lines "
                f"({strangers[0]!r}); give one or the other"
            )
        lines = [pair["sequence"] for pair in pairs if pair]
    for line in lines:
        if _leads_out(line):
            raise ValueError(
                f"split list {path} names {line!r}, which leads out of the folder of sequences; write one sequence "
                "name per line, and give another root to use what lies elsewhere"
            )
    if not lines:
        raise ValueError(f"split list {path} names no sequence; write one sequence name per line")
    return list(dict.fromkeys(lines))


def read_text(path: Path) -> str:
    """Read a text file as UTF-8, with or without a mark of byte order.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no such text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error


def table_format(lines: Sequence[str]) -> str | None:
    """Say what else than a list of items some lines are.

    Args:
        lines: of a list.

    Returns:
        The format in words, such as "comma-separated columns (CSV)"; None where each line may be an item.
    """
    if lines and lines[0][0] in "{[":
        return "JSON"
    for separator, format in (
        (",", "comma-separated columns (CSV)"),
        ("\t", "tab-separated columns (TSV)"),
        (";", "semicolon-separated columns (CSV)"),
        (" ", "columns separated by spaces (a path and a label?)"),
    ):
        if lines and all(separator in line for line in lines):
            return format
    return None


def _decode(path: Path) -> str:
    content = path.read_bytes()
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
            except UnicodeDecodeError as error:
                raise ValueError(f"list {path} begins as {encoding} text, but is none: {error}") from error
    if b"\0" not in content:
        return content.decode("utf-8", "surrogateescape")
    for encoding, zeros in (("utf-16-le", content[1::2]), ("utf-16-be", content[::2])):
        if len(content) % 2 == 0 and 2 * zeros.count(0) > len(zeros):  # most letters of names are Latin
            try:
                return content.decode(encoding)
            except UnicodeDecodeError:
                continue
    raise ValueError(f"list {path} is no text: it holds zero bytes; give a text file with one item per line")


def _without_quotes(line: str) -> str:
    quoted = len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" and line[0] not in line[1:-1]
    return line[1:-1].strip() if quoted else line


def _leads_out(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).anchor) or ".." in PurePosixPath(name).parts
