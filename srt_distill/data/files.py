"""Images that lie in files: a folder, a list of paths, the frames of a DAVIS root."""

from pathlib import Path

from PIL import Image

from srt_distill.data.bands import ARRAY_ENDING, Bands, read_bands
from srt_distill.data.listing import PackedNames, find_files, find_pictures, list_frames, natural_order
from srt_distill.data.lists import read_lines, read_names, table_format
from srt_distill.data.source import ImageSource
from srt_distill.images import MAX_PIXELS, read_image

NUM_TRIED = 16  # lines of a list that are looked for on disk before it is taken for a list of paths


class _ImageFiles(ImageSource):
    """Image files below one folder; how they were listed is the subclass's business."""

    def __init__(
        self,
        folder: Path,
        names: list[str],
        bit_depth: int | None,
        max_pixels: int,
        num_channels: int | None = None,
        white: float | None = None,
    ) -> None:
        if num_channels is not None and num_channels < 1:
            raise ValueError(f"num_channels={num_channels} must be at least 1, or null for 8-bit RGB")
        if num_channels is not None and bit_depth is not None:
            raise ValueError(
                f"bit_depth={bit_depth} is for images brought to 8-bit RGB; with num_channels set white="
                f"{2**bit_depth - 1} instead"
            )
        if white is not None and (num_channels is None or white <= 0):
            raise ValueError(f"white={white} must be above 0 and goes with num_channels; set bit_depth for RGB")
        self._folder = folder
        self._names = PackedNames(names)
        self._bit_depth = bit_depth
        self._max_pixels = max_pixels
        self._num_channels, self._white = num_channels, white

    def __len__(self) -> int:
        return len(self._names)

    @property
    def num_channels(self) -> int:
        """Channels of every image: as given, or those of RGB."""
        return self._num_channels or 3

    def load(self, index: int) -> Image.Image | Bands:
        """Decode an image, upright: in RGB, or all its bands."""
        name = self.name(index)
        path = self._folder / name
        if self._num_channels is None:
            return read_image(path, name, bit_depth=self._bit_depth, max_pixels=self._max_pixels)
        return read_bands(path, self._num_channels, name, white=self._white, max_pixels=self._max_pixels)

    def name(self, index: int) -> str:
        """Return the path as listed."""
        return self._names[index]


class ImageFolder(_ImageFiles):
    """All images in a folder, in natural order of their paths (2 before 10).

    The index is built from directory listings alone, but for files whose ending does not say what they are. It holds
    the relative path's length plus 8 bytes per image.

    Args:
        root: the folder.
        recursive: whether folders below count too.
        bit_depth: bits of pixels stored in 16 or 32, where they do not fill them; null infers it from each image.
        max_pixels: the largest image that is decoded; it takes 4 bytes of memory per pixel and loader process.
        num_channels: channels of every image (bands, grey), for a backbone that takes as many; .npy files then count
            as images too. Null for 8-bit RGB made of whatever an image is.
        white: with num_channels, the value that stands for 1 before mean and std; null for the largest of 8 or 16 bits,
            and 1 of floating-point numbers.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no image.
        ValueError: If options contradict each other.
        NotADirectoryError: If it is a file.
        PermissionError: If it may not be listed.
    """

    def __init__(
        self,
        root: str | Path,
        recursive: bool = True,
        bit_depth: int | None = None,
        max_pixels: int = MAX_PIXELS,
        num_channels: int | None = None,
        white: float | None = None,
    ) -> None:
        root = Path(root)
        names = find_pictures(root, recursive)
        if num_channels is not None:
            names = natural_order(names + find_files(root, (ARRAY_ENDING,), recursive))
        if not names:
            where = "here and in all folders below" if recursive else "not in folders below: recursive is off"
            raise FileNotFoundError(
                f"no image in {root} (looked for .jpg, .png and the like, and into files of unknown endings, "
                f"{where}; for .npy with num_channels only); check the path"
            )
        super().__init__(root, names, bit_depth, max_pixels, num_channels, white)


class FileList(_ImageFiles):
    """The images a text file names, one path per line, in its order.

    Paths are relative to the list's folder, or absolute. Text of any encoding and line ending is read; blank lines and
    those that begin with # are passed over, quotes around a line fall away (see `data.lists`). Images are not looked at
    until they are loaded: one that is missing counts as unreadable.

    Args:
        path: the text file.
        bit_depth: bits of pixels stored in 16 or 32, where they do not fill them; null infers it from each image.
        max_pixels: the largest image that is decoded; it takes 4 bytes of memory per pixel and loader process.
        num_channels: channels of every image (bands, grey), for a backbone that takes as many; .npy files then count
            as images too. Null for 8-bit RGB made of whatever an image is.
        white: with num_channels, the value that stands for 1 before mean and std; null for the largest of 8 or 16 bits,
            and 1 of floating-point numbers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it names no image, or is a table; or options contradict each other.
    """

    def __init__(
        self,
        path: str | Path,
        bit_depth: int | None = None,
        max_pixels: int = MAX_PIXELS,
        num_channels: int | None = None,
        white: float | None = None,
    ) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"file list {path} does not exist; give a text file with one image path per line")
        names = read_lines(path)
        if not names:
            raise ValueError(
                f"file list {path} names no image; write one image path per line, relative to {path.parent}"
            )
        if not any(_exists(path.parent / name) for name in names[:NUM_TRIED]) and (format := table_format(names)):
            raise ValueError(
                f"file list {path} looks like {format} (it begins with {names[0][:80]!r}, which is no file); write one "
                "image path per line and nothing else"
            )
        super().__init__(path.parent, names, bit_depth, max_pixels, num_channels, white)


class DavisFrames(_ImageFiles):
    """The frames of the sequences that a split of a DAVIS root lists; masks are never read.

    The default is train alone: val is what the result is measured on and stays out.

    Args:
        root: the folder that holds ImageSets/ and JPEGImages/.
        split: name of the list in ImageSets/<year>/, without .txt.
        year: edition of the lists.
        resolution: folder below JPEGImages/.

        bit_depth: bits of pixels stored in 16 or 32, where they do not fill them; null infers it from each image.
        max_pixels: the largest image that is decoded; it takes 4 bytes of memory per pixel and loader process.

    Raises:
        FileNotFoundError: If the root, the list, or a listed sequence's frames are missing.
        ValueError: If the list is empty or leads out of the root, or a frame is there in two formats.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        year: str = "2017",
        resolution: str = "480p",
        bit_depth: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        root = Path(root)
        lists = root / "ImageSets" / year
        path = lists / f"{split}.txt"
        if not root.is_dir():
            raise FileNotFoundError(f"DAVIS root {root} does not exist; give the folder that holds JPEGImages/")
        if not path.is_file():
            available = ", ".join(sorted(found.stem for found in lists.glob("*.txt"))) or "none"
            raise FileNotFoundError(f"split list {path} does not exist; splits of {year} found there: {available}")
        frames = root / "JPEGImages" / resolution
        names = []
        for sequence in read_names(path):
            found = list_frames(frames / sequence)
            if not found:
                raise FileNotFoundError(f"no frame of sequence {sequence} in {frames / sequence}; unpack it there")
            names += [f"{sequence}/{frame.name}" for frame in found]
        super().__init__(frames, names, bit_depth, max_pixels)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than a path can be, or with a zero byte in it
        return False
