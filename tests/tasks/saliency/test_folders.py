import numpy as np
import pytest
from PIL import Image

from srt_distill.tasks.saliency.folders import LAYOUTS, open_masked_images, read_grey


def write(root, images="img", masks="gt", names=("a", "b"), size=(6, 4)):
    for folder, ending, mode in ((images, ".jpg", "RGB"), (masks, ".png", "L")):
        (root / folder).mkdir(parents=True)
        for name in names:
            Image.new(mode, size).save(root / folder / f"{name}{ending}")
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_the_fields_data_sets_are_known(tmp_path, layout):
    found = open_masked_images(write(tmp_path, *layout))
    assert [image.name for image in found] == ["a", "b"]
    assert found[0].mask == tmp_path / layout[1] / "a.png"
    assert found[0].size == (4, 6)


def test_wrong_layouts_are_errors_that_say_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_masked_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nothing.*DUT-OMRON-image"):
        open_masked_images(tmp_path)
    (tmp_path / "pixelwiseGT-new-PNG").mkdir()
    with pytest.raises(FileNotFoundError, match="DUT-OMRON-image is missing"):
        open_masked_images(tmp_path)
    write(tmp_path, names=())
    with pytest.raises(FileNotFoundError, match="no photograph"):
        open_masked_images(tmp_path)


def test_a_missing_mask_or_photograph_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "gt" / "b.png").rename(tmp_path / "gt" / "c.png")
    with pytest.raises(FileNotFoundError, match=r"b\.jpg.*b\.png"):
        open_masked_images(tmp_path)
    (tmp_path / "img" / "b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"c\.png.*c\.jpg"):
        open_masked_images(tmp_path)


def test_sizes_that_differ_names_that_clash_and_damaged_files_are_errors(tmp_path):
    write(tmp_path)
    Image.new("L", (4, 6)).save(tmp_path / "gt" / "b.png")
    with pytest.raises(ValueError, match=r"b\.png is 4x6.*6x4"):
        open_masked_images(tmp_path)
    (tmp_path / "gt" / "b.png").write_bytes(b"not a picture")
    with pytest.raises(OSError, match=r"b\.png"):
        open_masked_images(tmp_path)
    Image.new("RGB", (6, 4)).save(tmp_path / "img" / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg.*a\.png|a\.png.*a\.jpg"):
        open_masked_images(tmp_path)


def test_masks_of_one_bit_and_of_palettes_are_read(tmp_path):
    mask = np.array([[True, False, True]])
    Image.fromarray(mask).save(tmp_path / "bits.png")
    assert read_grey(tmp_path / "bits.png").tolist() == [[255, 0, 255]]
    grey = Image.fromarray(np.array([[0, 7, 255]], dtype=np.uint8))
    grey.save(tmp_path / "grey.png")
    assert read_grey(tmp_path / "grey.png").tolist() == [[0, 7, 255]]
