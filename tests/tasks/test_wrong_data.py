"""Wrong data on every task: refused when items are listed, before any work, with a message that names the file."""

import pickle
import shutil
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from srt_distill.tasks import TASKS


def cut(path):
    """Leave the first part of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])


def edit(path, change):
    """Save an image again, its values changed."""
    with Image.open(path) as image:
        values = np.array(image)
    Image.fromarray(change(values)).save(path)


def claim(path, side):
    """Write a PNG whose header claims a huge size."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    with path.open("ab") as file:
        for kind in (b"IDAT", b"IEND"):
            file.write(struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind)))


def all_of(root, pattern, change):
    for path in root.glob(pattern):
        edit(path, change)


def turn_on_its_side(root):
    for part in ("test", "testannot"):
        edit(root / part / "001.png", lambda values: values[:48])
    with Image.open(root / "test" / "001.png") as image:
        exif = image.getexif()
        exif[0x112] = 6
        image.save(root / "test" / "001.png", exif=exif)


def change_truth(root, change):
    path = root / "gnd_rexample.pkl"
    truth = pickle.loads(path.read_bytes())
    change(truth)
    path.write_bytes(pickle.dumps(truth))


DAVIS_MASK, VOC = "Annotations/480p/cats/00003.png", "VOCdevkit/VOC2007"

FAULTS = [
    ("davis", lambda r: edit(r / DAVIS_MASK, lambda v: np.dstack([v] * 4)), {}, "00003.png has mode RGBA"),
    ("davis", lambda r: edit(r / DAVIS_MASK, lambda v: v.astype(np.uint16) * 300), {}, "00003.png holds object id 600"),
    ("davis", lambda r: cut(r / "JPEGImages/480p/cats/00003.jpg"), {}, "cats/00003.jpg: image file is truncated"),
    ("davis", lambda r: (r / "JPEGImages/480p/cats/00003.jpg").unlink(), {}, "no frame 00003 for mask .*00003.png"),
    ("depth", lambda r: cut(r / "train/rgb/004.png"), {}, "train/rgb/004.png"),
    ("depth", lambda r: cut(r / "test/depth/001.png"), {}, "test/depth/001.png"),
    ("depth", lambda r: claim(r / "test/rgb/001.png", 100_000), {}, "its image 100000x100000"),
    ("depth", lambda r: (r / "train/rgb/004.png").rename(r / "train/rgb/004.gif"), {}, "004.png has no image .*004"),
    ("depth", lambda r: all_of(r, "test/depth/*", lambda v: v * 0), {}, "test has a known pixel between"),
    ("depth", lambda r: None, {"units_per_metre": 1.0}, r"check `units_per_metre` \(1\)"),
    ("saliency", lambda r: cut(r / "gt/0002.png"), {}, "0002.png"),
    ("saliency", lambda r: cut(r / "img/0002.jpg"), {}, "0002.jpg"),
    ("saliency", lambda r: edit(r / "gt/0002.png", lambda v: np.dstack([v | 255] * 3 + [v])), {}, "is transparent"),
    ("saliency", lambda r: all_of(r, "gt/*", lambda v: v * 0), {}, "no mask of .* both salient pixels and others"),
    ("saliency", lambda r: all_of(r, "gt/*", lambda v: v | 255), {}, "no mask of .* both salient pixels and others"),
    (
        "saliency",
        lambda r: all_of(r, "gt/*", lambda v: v // 255),
        {"convention": "toolbox"},
        "0000.png has no value above 1",
    ),
    ("discovery", lambda r: cut(r / VOC / "JPEGImages/000003.jpg"), {}, "000003.jpg"),
    (
        "discovery",
        lambda r: (r / VOC / "ImageSets/Main/trainval.txt").write_text(""),
        {},
        "trainval.txt names no photo",
    ),
    (
        "discovery",
        lambda r: (r / VOC / "ImageSets/Main/trainval.txt").write_bytes(b"\xff\xfa"),
        {},
        "trainval.txt is not",
    ),
    ("retrieval", lambda r: cut(r / "gallery/ruby/ruby_1.png"), {}, "gallery/ruby/ruby_1.png"),
    ("retrieval", lambda r: cut(r / "query/ruby/ruby_2.png"), {}, "query/ruby/ruby_2.png"),
    ("retrieval", lambda r: (r / "query/ruby/ruby_2.png").unlink(), {}, "class folder .*query/ruby holds no picture"),
    ("retrieval", lambda r: [shutil.rmtree(p) for p in r.glob("*/[jr]*")], {}, "are of class 'amber'"),
    ("revisited", lambda r: cut(r / "jpg/tower_000001.jpg"), {}, "tower_000001.jpg"),
    ("revisited", lambda r: change_truth(r, lambda t: t["gnd"][1].update(bbx=[500, 0, 600, 9])), {}, "leaves nothing"),
    ("revisited", lambda r: change_truth(r, lambda t: t["gnd"][1].update(bbx=[-np.inf, 0, 9, 9])), {}, "endless"),
    ("revisited", lambda r: change_truth(r, lambda t: t["imlist"].__setitem__(0, "arch_000001")), {}, "more than once"),
    (
        "revisited",
        lambda r: change_truth(r, lambda t: [g.update(easy=[], hard=[]) for g in t["gnd"]]),
        {},
        "no query with an easy or hard answer",
    ),
    ("segmentation", lambda r: cut(r / "train/003.png"), {}, "train/003.png"),
    ("segmentation", lambda r: claim(r / "test/001.png", 100_000), {}, "test/001.png: 100000x100000"),
    ("segmentation", turn_on_its_side, {}, "001.png is 64x48 pixels, its image 48x64"),
    ("segmentation", lambda r: all_of(r, "testannot/*", lambda v: v | 255), {}, "testannot/000.png, are void"),
    ("segmentation", lambda r: all_of(r, "*annot/*", lambda v: v | 255), {}, "trainannot/000.png show no class alone"),
    ("segmentation_knn", lambda r: all_of(r, "*annot/*", lambda v: v * 0), {}, "trainannot/000.png show sky alone"),
    ("segmentation_knn", lambda r: (r / "classes.txt").write_text("a\na\nb\nvoid\n"), {}, "class 'a' more than once"),
    ("segmentation_knn", lambda r: (r / "classes.txt").write_bytes(b"h\xe4user\n"), {}, "classes.txt is not UTF-8"),
    ("nuclei", lambda r: all_of(r, "*/masks/*", lambda v: v * 0), {}, "cell0.png show background alone"),
    ("nuclei", lambda r: (r / "test.csv").write_text("stain,name\nHE\n"), {}, "test.csv has no 'name' in row 1"),
    ("nuclei", lambda r: (r / "test.csv").write_text(f"name\n{'a' * 200_000}\n"), {}, "test.csv, line .*field limit"),
    ("knn", lambda r: cut(r / "train/ruby/ruby_1.png"), {}, "train/ruby/ruby_1.png"),
    ("knn", lambda r: cut(r / "val/ruby/ruby_2.png"), {}, "val/ruby/ruby_2.png"),
    ("knn", lambda r: (r / "train/onyx").mkdir(), {}, "class folder .*onyx holds no picture"),
    ("knn", lambda r: [shutil.rmtree(p) for p in r.glob("*/[jr]*")], {"k": 1}, "are of class 'amber'"),
    ("untouched_head", lambda r: cut(r / "ruby_1.png"), {}, "ruby_1.png"),
]


@pytest.mark.parametrize(("name", "spoil", "options", "fault"), FAULTS)
def test_wrong_data_are_named_before_work(tmp_path, name, spoil, options, fault):
    task = TASKS[name].example(tmp_path / "data")
    spoil(tmp_path / "data")
    with pytest.raises((OSError, ValueError), match=fault):
        replace(task, **options).items()


def test_hidden_files_are_no_images_and_tables_may_begin_with_a_mark(tmp_path):
    depth = TASKS["depth"].example(tmp_path / "depth")
    (depth.root / "test/rgb/._001.png").write_text("what a desktop leaves")
    assert len(depth.items()) == 4
    nuclei = TASKS["nuclei"].example(tmp_path / "nuclei")
    table = nuclei.root / "test.csv"
    table.write_text(table.read_text(), encoding="utf-8-sig")
    assert len(nuclei.items()) == 4


def test_a_folder_layout_without_an_image_for_a_label_is_refused(tmp_path):
    task = TASKS["segmentation"].example(tmp_path / "lists")
    root = tmp_path / "folders"
    for split in ("train", "test"):
        shutil.copytree(task.root / split, root / split / "images")
        shutil.copytree(task.root / f"{split}annot", root / split / "labels")
    shutil.copy(task.root / "classes.txt", root)
    assert len(replace(task, root=root).items()) == 4
    (root / "train/images/003.png").rename(root / "train/images/003.gif")
    with pytest.raises(FileNotFoundError, match=r"labels/003\.png has no image .*images/003"):
        replace(task, root=root).items()
