"""Damaged files of every format that Pillow writes: each is read or is one unreadable, named image."""

import io
import resource
import time
import warnings
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from srt_distill.data import ImageFolder
from srt_distill.images import read_image, upright_size
from srt_distill.visualization import Column, visualize
from tests.data.pictures import picture

MODES = ("RGB", "L", "P", "1", "RGBA", "I;16", "F")
STARTS = [
    *(b"", b"8BPS\0\1", b"\x12\xaf\x04\0", b"\xb1\x68\xde\x3a", b"/* XPM */", b"\0\0\0\x14\0\0\0\x01", b"\0\0\2\0\1\0"),
    *(
        b"SIMPLE  =",
        b"\xd7\xcd\xc6\x9a",
        b"qoif",
        b"PIXAR\0",
        b"\x1c\x01",
        b"FTEX",
        b"VTF\0",
        b"\x59\xa6\x6a\x95",
        b"PCD_",
    ),
    *(
        b"\x89HDF\r\n\x1a\n",
        b"GRIB",
        b"BUFR",
        b"MCIDAS",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"\x8aMNG\r\n\x1a\n",
        b"#define a_width 9",
    ),
]
"""How files begin of formats that Pillow reads and does not write: Photoshop, FLI, PCX of many pages, XPM, more."""

SECONDS = 5  # for one file of a few kilobytes, on a machine that does other things too
MEBIBYTES = 1400  # a header may claim `MAX_PIXELS`, in 4 bytes each


@cache
def healthy() -> list[tuple[str, bytes]]:
    """A file in each format and mode that Pillow both writes and reads, with metadata where they have room."""
    Image.init()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    files = []
    for format in sorted(set(Image.SAVE) & set(Image.OPEN)):
        for mode in MODES:
            content = io.BytesIO()
            image = picture(3).convert("L").convert(mode) if mode in {"I;16", "F"} else picture(3).convert(mode)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    image.save(content, format, exif=exif)
                    Image.open(io.BytesIO(content.getvalue())).load()
                except Exception:  # not in this mode, or only where another program is installed
                    continue
            files.append((f"{format}-{mode}".replace(";", ""), content.getvalue()))
    return files


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Cut, overwrite, remove, repeat or flip, mostly near the beginning, where the structure is."""
    damaged = bytearray(content)
    for _ in range(random.integers(1, 5)):
        length = max(1, len(damaged))
        at = int(min(random.integers(length), random.integers(length)))
        size = int(random.integers(1, 17))
        match random.integers(6):
            case 0:
                damaged = damaged[: max(8, at)]
            case 1:
                damaged[at : at + size] = random.bytes(size)
            case 2:
                del damaged[at : at + size]
            case 3:
                damaged[at:at] = damaged[at : at + size]
            case 4:
                damaged[at : at + 4] = b"\xff\xff\xff\xff"
            case _:
                damaged[at : at + 1] = bytes([damaged[at] ^ 1 << int(random.integers(8))]) if at < len(damaged) else b""
    return bytes(damaged)


def read_all(folder, contents: dict[str, bytes]) -> int:
    """Read files, check what becomes of each, and count those that were read."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    num_read = 0
    for name in contents:
        started = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for read in (read_image, upright_size):
                try:
                    read(folder / name, name)
                    num_read += read is read_image
                except OSError as error:
                    assert name in str(error)
        assert time.monotonic() - started < SECONDS, f"{name} takes long"
        (folder / name).unlink()
    return num_read


def test_undamaged_files_are_read(tmp_path):
    files = dict(healthy())
    formats = {name.partition("-")[0] for name in files}
    assert formats >= {"BMP", "GIF", "JPEG", "PNG", "PPM", "TGA", "TIFF", "WEBP"} and len(files) > 40
    assert read_all(tmp_path, files) == len(files)


def test_a_thousand_damaged_files(tmp_path):
    random = np.random.default_rng(0)
    files = healthy()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    num_read = 0
    for number in range(1000):
        name, content = files[number % len(files)]
        num_read += read_all(tmp_path, {f"{number}-{name}": damage(content, random)})
    assert 50 < num_read < 950, "most damage goes unseen, or nothing is read"
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert more < MEBIBYTES, f"{more:.0f} MiB"


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage(tmp_path, data):
    """As above, where Hypothesis shrinks what it finds."""
    name, content = data.draw(st.sampled_from(healthy()), label="file")
    at = data.draw(st.integers(0, len(content) - 1), label="at")
    removed = data.draw(st.integers(0, 8), label="bytes removed")
    inserted = data.draw(st.binary(max_size=8), label="inserted")
    end = data.draw(st.sampled_from([None, len(content) // 2]), label="end")
    read_all(tmp_path, {name: (content[:at] + inserted + content[at + removed :])[:end]})


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), start=st.sampled_from(STARTS))
def test_any_bytes_are_unreadable_under_any_ending(tmp_path, content, start):
    for ending in ("png", "jpg", "tif", "webp", "tga", "gif"):
        read_all(tmp_path, {f"a.{ending}": start + content})


def test_a_folder_of_damaged_files_costs_themselves(tmp_path):
    """From one end to the other: what can be read is drawn, the rest is named."""
    random = np.random.default_rng(1)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, (name, content) in enumerate(file for file in healthy() if file[0].endswith("-RGB")):
        (folder / f"{number}-{name}.png").write_bytes(content if number % 2 else damage(content[:60], random))
    source = ImageFolder(folder)
    readable = set()
    for index in range(len(source)):
        try:
            source.load(index)
            readable.add(source.name(index).removesuffix(".png"))
        except OSError as error:
            assert source.name(index) in str(error)
    from srt_distill.images import Normalization

    column = Column(lambda images: (images[..., ::8, ::8],), Normalization((0.5,) * 3, (0.2,) * 3))
    with pytest.warns(UserWarning, match="passed over"):
        written = visualize({"colours": column}, [folder], tmp_path / "out", patch=8, short_side=32)
    assert {path.name.removesuffix("-pca.png") for path in written[:-1]} == readable and len(readable) > 5
