"""Which files are pictures: by the ending where it says so, by the first bytes where it does not.

An ending is enough for the common formats, so that a folder of a million files is indexed without opening one. Files of
other endings, or of none, are looked into. Formats that are pictures to people but not to Pillow are known by their
endings too, so that they are counted when they are passed over.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from srt_distill.images import READS_HEIF

HEIF_ENDINGS = frozenset({".heic", ".heif", ".hif"})

PICTURE_ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"),
        *(".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".qoi", ".tga"),
    )
) | (HEIF_ENDINGS if READS_HEIF else frozenset())
"""Taken for pictures unseen, in any case."""

FOREIGN_ENDINGS = (
    frozenset(
        (
            *(".heic", ".heif", ".hif", ".jxl", ".exr", ".hdr", ".svg", ".dcm", ".dng", ".cr2", ".cr3", ".crw", ".nef"),
            *(".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf"),
        )
    )
    - PICTURE_ENDINGS
)
"""Pictures that Pillow does not read (of a camera's raw file it would find the thumbnail)."""

NUM_LOOKED_INTO = 16
"""Files of an unknown ending that are opened before it is believed that all with this ending are alike."""

_SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF.{4}WEBP|II\*\0|MM\0\*|II\x2b\0|MM\0\x2b|8BPS|qoif|BM.{4}\0{4}|"
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51|P[1-7Ff]\s|.{4}ftyp(?:avif|avis"
    + (rb"|mif1|msf1|heic|heix|hevc|heim|heis)" if READS_HEIF else rb")"),
    re.DOTALL,
)


def by_ending(names: Iterable[str]) -> dict[str, list[str]]:
    """Group file names by what follows their last dot: with the dot, in lower case, empty without one."""
    groups: dict[str, list[str]] = {}
    for name in names:
        dot = name.rfind(".")
        groups.setdefault(name[dot:].lower() if dot > name.rfind("/") + 1 else "", []).append(name)
    return groups


def is_picture(path: Path) -> bool:
    """Tell whether a file begins like a picture of one of the common formats, whatever it is called.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return _SIGNATURE.match(file.read(32)) is not None


def pick_alike(names: list[str], look: Callable[[str], bool]) -> list[str]:
    """Pick the files that pass a look among many of one ending, opening few where all are alike.

    Some are looked into, spread evenly over the sorted names. Where these agree they stand for the others; else each is
    looked into.

    Args:
        names: files with the same ending.
        look: tells by a file's content whether it is wanted.

    Returns:
        Those wanted, sorted.
    """
    names = sorted(names)
    seen = {look(name) for name in names[:: -(-len(names) // NUM_LOOKED_INTO)]}
    if len(seen) > 1:
        return [name for name in names if look(name)]
    return names if seen == {True} else []
