"""Images that lie in files: a folder, a list of paths, the frames of a DAVIS root."""

from pathlib import Path

from PIL import Image

from srt_distill.data.listing import PackedNames, find_files
from srt_distill.data.source import ImageSource
from srt_distill.images import open_rgb

IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".gif", ".jp2", ".ppm", ".pgm", ".avif"),
)
"""File endings taken for images, in any case. Of an animation the first frame is read."""


class _ImageFiles(ImageSource):
    """Image files below one folder; how they were listed is the subclass's business."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self._folder = folder
        self._names = PackedNames(names)

    def __len__(self) -> int:
        return len(self._names)

    def load(self, index: int) -> Image.Image:
        """The image, upright and in RGB."""
        name = self.name(index)
        return open_rgb(self._folder / name, name)

    def name(self, index: int) -> str:
        """The path as listed."""
        return self._names[index]


class ImageFolder(_ImageFiles):
    """All images in a folder, sorted by path.

    The index is built from directory listings alone. It holds the relative path's length plus 8 bytes an image.

    Args:
        root: the folder.
        recursive: whether folders below count too.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no image.
        NotADirectoryError: If it is a file.
    """

    def __init__(self, root: str | Path, recursive: bool = True) -> None:
        root = Path(root)
        names = find_files(root, IMAGE_EXTENSIONS, recursive)
        if not names:
            where = "here and in all folders below" if recursive else "not in folders below: recursive is off"
            raise FileNotFoundError(
                f"no image in {root} (looked for {', '.join(IMAGE_EXTENSIONS)}, {where}); check the path"
            )
        super().__init__(root, names)


class FileList(_ImageFiles):
    """The images a text file names, one path a line, in its order.

    Paths are relative to the list's folder, or absolute; blank lines are passed over. The files are not looked at until
    they are loaded: one that is missing counts as unreadable.

    Args:
        path: the text file, UTF-8.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it names no image.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"file list {path} does not exist; give a text file with one image path a line")
        lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        names = [line.strip() for line in lines if line.strip()]
        if not names:
            raise ValueError(f"file list {path} names no image; write one image path a line, relative to {path.parent}")
        super().__init__(path.parent, names)


class DavisFrames(_ImageFiles):
    """The frames of the sequences that a split of a DAVIS root lists; masks are never read.

    The default is train alone: val is what the result is measured on and stays out.

    Args:
        root: the folder that holds ImageSets/ and JPEGImages/.
        split: name of the list in ImageSets/<year>/, without .txt.
        year: edition of the lists.
        resolution: folder below JPEGImages/.

    Raises:
        FileNotFoundError: If the root, the list, or a listed sequence's frames are missing.
        ValueError: If the list is empty.
    """

    def __init__(self, root: str | Path, split: str = "train", year: str = "2017", resolution: str = "480p") -> None:
        root = Path(root)
        lists = root / "ImageSets" / year
        path = lists / f"{split}.txt"
        if not root.is_dir():
            raise FileNotFoundError(f"DAVIS root {root} does not exist; give the folder that holds JPEGImages/")
        if not path.is_file():
            available = ", ".join(sorted(found.stem for found in lists.glob("*.txt"))) or "none"
            raise FileNotFoundError(f"split list {path} does not exist; splits of {year} found there: {available}")
        sequences = path.read_text(encoding="utf-8").split()
        if not sequences:
            raise ValueError(f"split list {path} names no sequence; write one sequence name a line")
        frames = root / "JPEGImages" / resolution
        names = []
        for sequence in sequences:
            found = find_files(frames / sequence, IMAGE_EXTENSIONS, recursive=False)
            if not found:
                raise FileNotFoundError(f"no frame of sequence {sequence} in {frames / sequence}; unpack it there")
            names += [f"{sequence}/{name}" for name in found]
        super().__init__(frames, names)
