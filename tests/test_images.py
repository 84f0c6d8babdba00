import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from srt_distill import images
from srt_distill.images import (
    Normalization,
    read_image,
    to_rgb,
    turn_upright,
    unreadable_as_os_error,
    upright_size,
)
from tests.data.pictures import picture

ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def nothing_warned_of(monkeypatch):
    monkeypatch.setattr(images, "_warned_of", [])


def grey(value, dtype) -> Image.Image:
    return Image.fromarray(np.full((2, 2), value, dtype))


def level(image: Image.Image) -> int:
    values = {image.getpixel((x, y)) for x in range(image.width) for y in range(image.height)}
    assert image.mode == "RGB" and len(values) == 1 and len(set(next(iter(values)))) == 1
    return next(iter(values))[0]


# ---------------------------------------------------------------- what can go wrong


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no frame"), TypeError(), AssertionError(), SyntaxError("broken PNG"), KeyError(3), OSError(5)],
)
def test_whatever_a_decoder_raises_is_an_unreadable_named_image(error):
    with pytest.raises(OSError, match=r"cannot read image a\.avif: ."), unreadable_as_os_error("a.avif"):
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_what_says_nothing_of_the_image_passes_through(error):
    with pytest.raises(error), unreadable_as_os_error("a.avif"):
        raise error


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for read in (read_image, upright_size):
        with pytest.raises(OSError, match=r"cannot read image .*pipe\.png: it is no regular file"):
            read(tmp_path / "pipe.png")


def test_errors_call_the_image_by_its_path_or_as_asked(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for read in (read_image, upright_size):
        with pytest.raises(OSError, match=f"cannot read image {tmp_path}/a.png: "):
            read(tmp_path / "a.png")
        with pytest.raises(OSError, match="cannot read image bear/00000: "):
            read(tmp_path / "a.png", "bear/00000")
        with pytest.raises(OSError, match="cannot read image gone: "):
            read(tmp_path / "nowhere.png", "gone")


def test_a_picture_beyond_max_pixels_is_refused_with_ways_to_use_it(tmp_path):
    Image.new("L", (200, 100), 90).save(tmp_path / "scene.png")
    with pytest.raises(
        OSError, match=r"scene\.png: 200x100 .*max_pixels=19999; cut it into tiles, or raise max_pixels"
    ):
        read_image(tmp_path / "scene.png", max_pixels=19999)
    assert read_image(tmp_path / "scene.png", max_pixels=20000).size == (200, 100)


def test_a_slide_of_200_million_pixels_is_read_and_pillows_own_limit_stays(tmp_path):
    """The header alone is looked at, and Pillow's check, which refuses it, is not heard."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.new("1", (20000, 10000)).save(tmp_path / "scene.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert upright_size(tmp_path / "scene.png") == (10000, 20000)
    assert images.MAX_PIXELS >= 200_000_000 and limit == Image.MAX_IMAGE_PIXELS


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(tmp_path, format, orientation):
    """A corner is marked; where it comes to lie is the EXIF standard's definition."""
    shown = np.zeros((16, 24, 3), np.uint8)
    shown[:4, :8] = 255
    rows = [shown, shown[:, ::-1], shown[::-1, ::-1], shown[::-1]]
    stored = [*rows, *(row.transpose(1, 0, 2) for row in rows)][orientation - 1]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(
        tmp_path / "a", format, exif=exif, **{"quality": 100} if format != "PNG" else {}
    )
    image = read_image(tmp_path / "a")
    assert upright_size(tmp_path / "a") == (16, 24) == (image.height, image.width)
    assert np.abs(np.asarray(image).astype(int) - shown).max() < 40


def odd_tiff(path: Path) -> None:
    """XMP as a list of numbers, and an orientation that is fine."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ORIENTATION] = 6
    tags[700] = (1, 2, 3)
    tags.tagtype[700] = 4
    picture(1).transpose(Image.Transpose.ROTATE_90).save(path, "TIFF", tiffinfo=tags)


def odd_jpeg(path: Path) -> None:
    """A description as a fraction, and an orientation that is fine."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"MM")
    tags[ORIENTATION] = 6
    tags[270] = TiffImagePlugin.IFDRational(1, 3)
    tags.tagtype[270] = 5
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + tags.tobytes(8)
    picture(1).transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", exif=exif, quality=100)


@pytest.mark.parametrize("save", [odd_tiff, odd_jpeg])
def test_an_odd_tag_costs_neither_the_picture_nor_its_orientation(tmp_path, save):
    save(tmp_path / "a")
    image = read_image(tmp_path / "a")
    assert upright_size(tmp_path / "a") == (40, 56)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(picture(1))).mean() < 3


@given(st.binary(max_size=60))
def test_no_metadata_cost_a_picture(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "a.png"
    picture(1).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08" + content)
    assert read_image(path).size in {(56, 40), (40, 56)}


def test_orientation_alone_keeps_the_mode(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    mask = Image.new("P", (5, 3), 7)
    mask.putpalette(list(range(30)))
    mask.save(tmp_path / "mask.png", exif=exif)
    with Image.open(tmp_path / "mask.png") as stored:
        turned = turn_upright(stored)
    assert turned.mode == "P" and turned.size == (3, 5) and turned.getpixel((0, 0)) == 7


# ---------------------------------------------------------------- depth


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_the_same_picture_in_more_bits_is_the_same(tmp_path, dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    wide = levels.astype(np.float32) / 255 if dtype is np.float32 else levels.astype(dtype) * dtype(257)
    Image.fromarray(wide).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tiff"))[..., 0], levels)


@pytest.mark.parametrize(
    ("white", "dtype"),
    [
        *((white, np.uint16) for white in (255, 1023, 4095, 65535)),
        *((white, np.int32) for white in (255, 4095, 65535)),
        *((white, np.float32) for white in (1, 255, 65535)),
    ],
)
def test_white_is_white_in_any_depth(white, dtype):
    assert level(to_rgb(grey(white, dtype))) == 255
    assert level(to_rgb(grey(0, dtype))) == 0


def test_bit_depth_overrides_the_guess():
    assert level(to_rgb(grey(16383, np.uint16))) == 64
    assert level(to_rgb(grey(16383, np.uint16), bit_depth=14)) == 255
    assert level(to_rgb(grey(1000, np.uint16), bit_depth=16)) == 4
    with pytest.raises(ValueError, match="pixel values 4096 to 4096 .*bit_depth=12"):
        to_rgb(grey(4096, np.uint16), bit_depth=12)


@pytest.mark.parametrize(
    ("value", "dtype"), [(70000, np.int32), (-1, np.int32), (-0.5, np.float32), (np.inf, np.float32)]
)
def test_values_of_no_known_range_are_refused(value, dtype):
    with pytest.raises(ValueError, match="pixel values .*save it as 8-bit RGB first"):
        to_rgb(grey(value, dtype))


def test_not_a_number_is_black():
    assert level(to_rgb(grey(np.nan, np.float32))) == 0


@pytest.mark.parametrize("image", [grey(7000, np.uint16), grey(4.5, np.float32)])
def test_a_small_range_is_warned_of_once_with_the_name(image):
    with pytest.warns(UserWarning, match=r"image dark\.png uses .* less than an eighth.*set bit_depth") as warned:
        to_rgb(image, "dark.png")
        to_rgb(image, "darker.png")
    assert len(warned) == 1


def test_twelve_bits_of_colour_in_sixteen_are_warned_of(tmp_path):
    """Pillow keeps the high bytes of such colours alone; what they hold of the low ones is lost."""
    pixels = np.full((8, 8, 3), 4000, np.uint16)
    import av

    frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le").reformat(format="rgb48be")
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 8, 8, "rgb48be", 1
    (tmp_path / "dark.png").write_bytes(b"".join(map(bytes, [*codec.encode(frame), *codec.encode(None)])))
    with pytest.warns(UserWarning, match=r"dark\.png uses 15 of 255 levels"):
        assert level(read_image(tmp_path / "dark.png")) == 15


def test_ordinary_dark_pictures_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_rgb(Image.new("RGB", (2, 2), (3, 3, 3)))
        to_rgb(grey(40000, np.uint16))
        to_rgb(grey(0, np.uint16))


def test_any_mode_becomes_rgb_of_the_same_picture():
    assert level(to_rgb(Image.new("L", (2, 2), 9))) == 9
    assert level(to_rgb(Image.new("1", (2, 2), 1))) == 255
    assert level(to_rgb(Image.new("LA", (2, 2), (9, 0)))) == 9
    assert to_rgb(Image.new("RGBA", (2, 2), (1, 2, 3, 0))).getpixel((0, 0)) == (1, 2, 3)
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([7, 8, 9])
    palette.info["transparency"] = b"\x00"
    assert to_rgb(palette).getpixel((0, 0)) == (7, 8, 9)
    assert to_rgb(Image.new("RGBa", (2, 2), (9, 9, 9, 255))).getpixel((0, 0)) == (9, 9, 9)
    assert to_rgb(Image.new("CMYK", (2, 2), (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


# ---------------------------------------------------------------- normalisation


def test_normalisation_and_back():
    normalization = Normalization((0.5, 0.4, 0.3), (0.2, 0.1, 0.4))
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    normalized = normalization(images)
    assert normalized[1, 2, 3, 4].item() == pytest.approx((119 / 255 - 0.3) / 0.4)
    assert torch.allclose(normalization.undo(normalized) * 255, images.float(), atol=1e-4)
