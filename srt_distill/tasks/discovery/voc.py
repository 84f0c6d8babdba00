"""Photographs and boxes in the layout of PASCAL VOC.

Shape legend: none.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from srt_distill.data.lists import read_text
from srt_distill.images import upright_size
from srt_distill.tasks.regions.components import Box


@dataclass(frozen=True)
class Photograph:
    """A photograph and the boxes of its objects.

    Attributes:
        name: Of its line in the list.
        image: The photograph.
        annotation: The XML file.
        size: Height and width, in pixels.
        boxes: Of its objects, right and bottom outside.
    """

    name: str
    image: Path
    annotation: Path
    size: tuple[int, int]
    boxes: tuple[Box, ...]


def open_photographs(root: Path, split: str, no_hard: bool) -> list[Photograph]:
    """Find the photographs of a list and read their boxes.

    Args:
        root: Folder with JPEGImages, Annotations and ImageSets, or one that holds it as `VOC2007` or
            `VOCdevkit/VOC2007`.
        split: Name of the list under ImageSets/Main.
        no_hard: Leave out objects marked difficult or truncated, and photographs with no other object.

    Raises:
        FileNotFoundError: If a folder, the list, a photograph or its annotation is missing.
        ValueError: If an annotation cannot be read, has no object, or does not fit its photograph.
        OSError: If a photograph is no image.
    """
    folder = find_voc(root)
    photographs = []
    for name in _read_list(folder, split):
        image, annotation = folder / "JPEGImages" / f"{name}.jpg", folder / "Annotations" / f"{name}.xml"
        for path in (image, annotation):
            if not path.is_file():
                raise FileNotFoundError(f"list {split} names {name}, but there is no {path}; see that all is unpacked")
        size = upright_size(image)
        boxes = read_boxes(annotation, size, no_hard)
        if boxes:
            photographs.append(Photograph(name, image, annotation, size, boxes))
    if not photographs:
        raise ValueError(f"no photograph of list {split} has an object that counts; set no_hard to false")
    return photographs


def find_voc(root: Path) -> Path:
    """Find the folder with photographs, annotations and lists: the root, or below it under VOC's own names.

    Raises:
        FileNotFoundError: If one of the three is missing.
    """
    places = (root, root / "VOC2007", root / "VOCdevkit" / "VOC2007")
    folder = next((place for place in places if (place / "JPEGImages").is_dir()), None)
    if folder is None:
        here = ", ".join(sorted(path.name for path in root.iterdir())[:8]) if root.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"no JPEGImages in {', '.join(map(str, places))} ({root}: {here}); give the folder VOCdevkit/VOC2007"
        )
    for part in (folder / "Annotations", folder / "ImageSets" / "Main"):
        if not part.is_dir():
            raise FileNotFoundError(f"folder {part} is missing; VOC keeps Annotations and ImageSets beside JPEGImages")
    return folder


def _read_list(folder: Path, split: str) -> list[str]:
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))[:8]) or "none"
        raise FileNotFoundError(f"no list {path}; choose split among {there}")
    names = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise ValueError(f"list {path} names no photograph; write a name per line, or choose another split")
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"list {path} names {name} {count} times; keep one line of them")
    return names


def read_boxes(annotation: Path, size: tuple[int, int], no_hard: bool) -> tuple[Box, ...]:
    """Boxes of one annotation, from VOC's 1-based inclusive corners to 0-based ones with right and bottom outside.

    Args:
        annotation: The XML file.
        size: Height and width of the photograph, in pixels.
        no_hard: Leave out objects marked difficult or truncated.

    Raises:
        ValueError: If the file is no such annotation, has no object, or was made for another size.
    """
    try:
        tree = ElementTree.parse(annotation).getroot()
        stated = int(tree.findtext("size/height", "")), int(tree.findtext("size/width", ""))
        objects = [(_is_hard(entry), _read_box(entry)) for entry in tree.findall("object")]
    except (ElementTree.ParseError, ValueError, OverflowError, LookupError) as error:  # infinite; unknown encoding
        raise ValueError(
            f"annotation {annotation} cannot be read ({error}); VOC's XML files have numbers here"
        ) from error
    if stated != size:
        raise ValueError(
            f"annotation {annotation} is of {stated[1]}x{stated[0]} pixels, its photograph {size[1]}x{size[0]}; use "
            "the photograph that was annotated"
        )
    if not objects:
        raise ValueError(f"annotation {annotation} has no object; every photograph needs one to be found")
    for _, (left, top, right, bottom) in objects:
        if not (0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]):
            raise ValueError(
                f"annotation {annotation} has a box {(left + 1, top + 1, right, bottom)} that is empty or outside the "
                f"{size[1]}x{size[0]} pixels; corners are xmin, ymin, xmax, ymax, from 1, inclusive"
            )
    return tuple(box for hard, box in objects if not (no_hard and hard))


def _is_hard(entry: ElementTree.Element) -> bool:
    return "1" in (entry.findtext("difficult", "0").strip(), entry.findtext("truncated", "0").strip())


def _read_box(entry: ElementTree.Element) -> Box:
    left, top, right, bottom = (
        round(float(entry.findtext(f"bndbox/{corner}", ""))) for corner in ("xmin", "ymin", "xmax", "ymax")
    )
    return left - 1, top - 1, right, bottom
