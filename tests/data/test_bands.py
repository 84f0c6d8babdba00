"""Images of any number of channels: every band as it is stored, cropped and resized like colours."""

import pickle
import warnings

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from srt_distill.data import FileList, ImageFolder, Mixture, UnlabeledImages
from srt_distill.data.bands import Bands, as_colours, read_bands
from srt_distill.data.crops import cut_window
from tests.data.pictures import picture


def values(channels, dtype=np.uint8, height=20, width=28, white=255):
    random = np.random.default_rng(channels)
    return (random.random((height, width, channels)) * white).astype(dtype)


@pytest.mark.parametrize(
    ("name", "mode", "channels"),
    [("a.png", "L", 1), ("a.png", "LA", 2), ("a.png", "RGBA", 4), ("a.tif", "CMYK", 4), ("a.bmp", "RGB", 3)],
)
def test_pillows_bands_are_all_there_to_the_bit(tmp_path, name, mode, channels):
    wanted = values(channels)
    Image.fromarray(wanted[..., 0] if channels == 1 else wanted, mode).save(tmp_path / name)
    bands = read_bands(tmp_path / name, channels)
    assert (bands.width, bands.height, bands.size) == (28, 20, (28, 20))
    np.testing.assert_array_equal(np.asarray(bands), wanted)


@pytest.mark.parametrize("planar", [None, "contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_of_many_bands(tmp_path, planar, dtype):
    wanted = values(7, dtype, white={np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype])
    stored = wanted if planar == "contig" else np.moveaxis(wanted, 2, 0)  # pages, bands last, bands first
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", planarconfig=planar)
    bands = np.asarray(read_bands(tmp_path / "a.tif", 7))
    assert bands.dtype == (np.uint8 if dtype is np.uint8 else np.float32)
    white = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    np.testing.assert_allclose(bands.astype(np.float64), wanted.astype(np.float64) * 255 / white, rtol=1e-6)


def test_tiff_is_turned_upright(tmp_path):
    wanted = values(5)
    stored = np.rot90(wanted)  # anti-clockwise: orientation 6 turns it back
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="minisblack", planarconfig="contig", extratags=[(274, "H", 1, 6, True)]
    )
    np.testing.assert_array_equal(np.asarray(read_bands(tmp_path / "a.tif", 5)), wanted)


def test_arrays_are_scaled_by_what_stands_for_one(tmp_path):
    wanted = values(12, np.uint16, white=10000)
    np.save(tmp_path / "a.npy", wanted)
    bands = np.asarray(read_bands(tmp_path / "a.npy", 12, white=10000.0))
    np.testing.assert_allclose(bands, wanted.astype(np.float32) * 255 / 10000, rtol=1e-6)

    decibels = values(2, np.float32) - 20
    decibels[3, 4, 1] = np.nan
    np.save(tmp_path / "a.npy", decibels)
    bands = np.asarray(read_bands(tmp_path / "a.npy", 2, white=1.0))
    np.testing.assert_allclose(bands, np.nan_to_num(decibels) * 255, rtol=1e-6)
    with pytest.raises(OSError, match="not within 0 and 1; set white"):
        read_bands(tmp_path / "a.npy", 2)
    np.save(tmp_path / "a.npy", values(1, np.int16)[..., 0])
    with pytest.raises(OSError, match="int16.*set white"):
        read_bands(tmp_path / "a.npy", 1)
    assert len(read_bands(tmp_path / "a.npy", 1, white=255.0).pictures) == 1


def test_16_bits_of_grey_keep_them(tmp_path):
    wanted = values(1, np.uint16, white=65535)[..., 0]
    Image.fromarray(wanted).save(tmp_path / "a.png")
    np.testing.assert_allclose(np.asarray(read_bands(tmp_path / "a.png", 1))[..., 0], wanted * (255 / 65535), rtol=1e-6)


class Malicious:
    def __reduce__(self):
        return print, ("run",)


def test_what_is_no_image_of_so_many_channels_is_refused(tmp_path, capsys):
    np.save(tmp_path / "first.npy", np.moveaxis(values(5), 2, 0))
    with pytest.raises(OSError, match=r"first.npy.*28 channels.*\(5, 20, 28\).*num_channels is 5"):
        read_bands(tmp_path / "first.npy", 5)
    np.save(tmp_path / "video.npy", np.zeros((2, 20, 28, 5)))
    with pytest.raises(OSError, match=r"\(2, 20, 28, 5\).*\(height, width, channels\)"):
        read_bands(tmp_path / "video.npy", 5)
    np.save(tmp_path / "objects.npy", np.array([[Malicious()]], dtype=object), allow_pickle=True)
    with pytest.raises(OSError, match="Python objects"):
        read_bands(tmp_path / "objects.npy", 1)
    assert "run" not in capsys.readouterr().out
    picture(0).save(tmp_path / "rgb.png")
    with pytest.raises(OSError, match=r"3 channels \(mode RGB\), num_channels is 4; none is left out"):
        read_bands(tmp_path / "rgb.png", 4)
    tifffile.imwrite(tmp_path / "deep.tif", values(4, np.uint16), photometric="minisblack", planarconfig="contig")
    with pytest.raises(OSError, match="4 channels, num_channels is 3"):
        read_bands(tmp_path / "deep.tif", 3)
    with pytest.raises(OSError, match="max_pixels=100"):
        read_bands(tmp_path / "deep.tif", 4, max_pixels=100)


def test_bands_are_cut_as_colours_are():
    """Three bands of bytes go through the same filters as an RGB picture, to the bit."""
    image = Image.fromarray(values(3, height=40, width=56))
    bands = Bands(image.split())
    for size in ((40, 56), (33, 47), (64, 90)):
        windows = [cut_window(kind, size, 3, 5, 16, 24, flip=True) for kind in (image, bands)]
        assert windows[0].dtype == windows[1].dtype == torch.uint8
        assert torch.equal(*windows)


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.full((24, 24, 6), 1000 * number, np.uint16))
    return tmp_path


def test_a_folder_of_arrays_becomes_batches_of_bands(folder):
    source = ImageFolder(folder, num_channels=6, white=5000.0)
    assert len(source) == 6 and source.num_channels == 6 and source.name(2) == "2.npy"
    assert Mixture([source, source]).num_channels == 6
    data = UnlabeledImages(
        pickle.loads(pickle.dumps(source)), 8, margin=1, batch_size=3, num_workers=0, held_out=3, patch=8
    )
    data.setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (batch,) = data.train_dataloader()
    assert batch.shape == (3, 6, 10, 10) and batch.dtype == torch.float32
    assert set(batch.flatten().round().tolist()) <= {51.0 * number for number in range(6)}


def test_options_that_contradict_each_other_are_refused(folder):
    with pytest.raises(FileNotFoundError, match="no image"):
        ImageFolder(folder)  # arrays are images only where channels are given
    picture(0).save(folder / "rgb.png")
    for options, remedy in (
        ({"num_channels": 0}, "at least 1"),
        ({"num_channels": 6, "bit_depth": 12}, "set white=4095"),
        ({"white": 5.0}, "goes with num_channels"),
        ({"num_channels": 6, "white": 0.0}, "above 0"),
    ):
        with pytest.raises(ValueError, match=remedy):
            ImageFolder(folder, **options)
    (folder / "list.txt").write_text("1.npy\n")
    assert FileList(folder / "list.txt", num_channels=6).num_channels == 6
    with pytest.raises(ValueError, match=r"\[6, 3\] channels"):
        Mixture([ImageFolder(folder, num_channels=6), FileList(folder / "list.txt")])


def test_bands_are_shown_by_their_first_three():
    images = torch.arange(6.0)[None, :, None, None].expand(1, 6, 2, 2) * 100
    assert as_colours(images)[0, :, 0, 0].tolist() == [0, 100, 200]
    assert as_colours(images[:, 3:5])[0, :, 0, 0].tolist() == [255, 255, 255]
