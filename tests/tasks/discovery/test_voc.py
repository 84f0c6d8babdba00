import pytest
from PIL import Image

from srt_distill.tasks.discovery.example import write_example
from srt_distill.tasks.discovery.voc import open_photographs

OBJECT = """<object><name>{name}</name><truncated>{truncated}</truncated><difficult>{difficult}</difficult>
<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


@pytest.fixture
def voc(tmp_path):
    write_example(tmp_path)
    return tmp_path / "VOCdevkit" / "VOC2007"


def annotate(folder, name, *objects, size=(90, 60)):
    entries = "".join(OBJECT.format(**{"name": "cat", "truncated": 0, "difficult": 0} | entry) for entry in objects)
    (folder / "Annotations" / f"{name}.xml").write_text(
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{entries}</annotation>"
    )


def test_boxes_are_0_based_with_right_and_bottom_outside(voc):
    annotate(voc, "000001", {"box": (1, 1, 90, 60)}, {"box": (5, 7, 5, 8)})
    found = open_photographs(voc, "trainval", no_hard=False)
    assert found[0].boxes == ((0, 0, 90, 60), (4, 6, 5, 8))
    assert [photograph.name for photograph in found] == ["000001", "000002", "000003"]
    assert found[0].size == (60, 90)


def test_hard_objects_are_left_out_on_request_and_photographs_of_nothing_else_too(voc):
    annotate(voc, "000001", {"box": (1, 1, 9, 9), "difficult": 1}, {"box": (1, 1, 8, 8)})
    annotate(voc, "000002", {"box": (1, 1, 9, 9), "truncated": 1})
    assert [len(p.boxes) for p in open_photographs(voc, "trainval", no_hard=False)] == [2, 1, 1]
    assert [(p.name, len(p.boxes)) for p in open_photographs(voc, "trainval", no_hard=True)] == [
        ("000001", 1),
        ("000003", 1),
    ]


def test_the_root_may_be_any_of_vocs_folders(voc):
    for root in (voc, voc.parent, voc.parent.parent):
        assert len(open_photographs(root, "trainval", no_hard=False)) == 3


@pytest.mark.parametrize(
    "objects, size, reason",
    [
        ([], (90, 60), "no object"),
        ([{"box": (1, 1, 9, 9)}], (60, 90), "60x90.*90x60"),
        ([{"box": (0, 1, 9, 9)}], (90, 60), "outside"),
        ([{"box": (9, 1, 8, 9)}], (90, 60), "empty"),
        ([{"box": (1, 1, 91, 9)}], (90, 60), "outside"),
        ([{"box": (1, 1, "", 9)}], (90, 60), "cannot be read"),
        ([{"box": ("inf", 1, 9, 9)}], (90, 60), "infinity"),
    ],
)
def test_annotations_that_do_not_fit_are_named(voc, objects, size, reason):
    annotate(voc, "000002", *objects, size=size)
    with pytest.raises(ValueError, match=rf"000002\.xml.*{reason}"):
        open_photographs(voc, "trainval", no_hard=False)


@pytest.mark.parametrize("content", ["<annotation>", '<?xml version="1.0" encoding="none-such"?><annotation/>'])
def test_damaged_xml_is_named(voc, content):
    (voc / "Annotations" / "000003.xml").write_text(content)
    with pytest.raises(ValueError, match=r"000003\.xml"):
        open_photographs(voc, "trainval", no_hard=False)


def test_missing_folders_lists_and_files_are_named(voc, tmp_path):
    with pytest.raises(FileNotFoundError, match="JPEGImages"):
        open_photographs(tmp_path / "nowhere", "trainval", no_hard=False)
    with pytest.raises(FileNotFoundError, match=r"val\.txt.*trainval"):
        open_photographs(voc, "val", no_hard=False)
    (voc / "Annotations" / "000002.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"000002\.xml"):
        open_photographs(voc, "trainval", no_hard=False)
    (voc / "Annotations").rename(voc / "Notes")
    with pytest.raises(FileNotFoundError, match="Annotations"):
        open_photographs(voc, "trainval", no_hard=False)


def test_broken_photographs_and_repeated_lines_are_errors(voc):
    listed = voc / "ImageSets" / "Main" / "trainval.txt"
    listed.write_text("000001  1\n000001 -1\n")
    with pytest.raises(ValueError, match="000001 2 times"):
        open_photographs(voc, "trainval", no_hard=False)
    listed.write_text("000001  1\n\n")
    Image.new("RGB", (9, 9)).save(voc / "JPEGImages" / "000001.jpg")
    with pytest.raises(ValueError, match="9x9"):
        open_photographs(voc, "trainval", no_hard=False)
    (voc / "JPEGImages" / "000001.jpg").write_bytes(b"no picture")
    with pytest.raises(OSError, match=r"000001\.jpg"):
        open_photographs(voc, "trainval", no_hard=False)


def test_real_annotations(shared_data):
    root = shared_data / "tasks" / "voc2007"
    if not root.is_dir():
        pytest.skip("no VOC data (../shared/data/tasks/voc2007)")
    found = open_photographs(root, "trainval", no_hard=False)
    assert (len(found), sum(len(photograph.boxes) for photograph in found)) == (40, 99)
    assert len(open_photographs(root, "trainval", no_hard=True)) < 40
