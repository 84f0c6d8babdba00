"""Videos in the DAVIS layout: finding, checking and reading them.

Shape legend: H W pixels of an image as stored, rows columns pixels of the network's input, p patch side in pixels.

    ImageSets/<year>/<split>.txt        one sequence name per line
    JPEGImages/480p/<name>/00000.jpg    frames
    Annotations/480p/<name>/00000.png   masks, pixel value = object id, 0 background, 255 void

MOSE and YouTube-VOS have sequences right below JPEGImages and Annotations; those are read too, as is another folder of
a resolution where it is the only one (Full-Resolution).
"""

import difflib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image

from srt_distill.data.listing import list_frames
from srt_distill.data.lists import read_names
from srt_distill.images import read_image, unreadable_as_os_error, upright_size
from srt_distill.tasks.davis.sequence_scores import VOID, object_ids

RESOLUTION = "480p"  # folder under JPEGImages and Annotations
SHORT_SIDE = 480  # pixels at scale 1

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Video:
    """One sequence on disk.

    Attributes:
        name: Folder name.
        frames: Image files in order of time.
        masks: One mask file per frame.
        size: Height and width in pixels, the same for all.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    size: tuple[int, int]


def list_sequences(root: Path, split: str = "val", year: str = "2017") -> list[str]:
    """Read the names in a split list.

    Raises:
        FileNotFoundError: If the root or the list is missing; names the lists there are.
        ValueError: If the list is empty, or a line is no name of a sequence.
    """
    _require_root(root)
    listing = root / "ImageSets" / year / f"{split}.txt"
    if not listing.is_file():
        available = sorted(str(path.relative_to(root)) for path in (root / "ImageSets").glob("*/*.txt"))
        raise FileNotFoundError(
            f"no split list {listing.relative_to(root)} in {root}; available: {', '.join(available) or 'none'}"
        )
    return read_names(listing)


def open_videos(root: Path, names: Sequence[str]) -> list[Video]:
    """Open several sequences, each once; all are checked before any work starts. See `open_video`."""
    return [open_video(root, name) for name in dict.fromkeys(names)]


def open_video(root: Path, name: str) -> Video:
    """Find and check one sequence; reads image headers and the first mask only.

    Args:
        root: The DAVIS folder.
        name: Of the sequence.

    Raises:
        FileNotFoundError: If the root, the sequence, its first mask or another mask is missing, or a mask's frame.
        ValueError: If there are fewer than three frames, sizes differ or the first mask holds no object.
    """
    frames = find_frames(root, name)
    mask_folder = find_sequences(root / "Annotations", name) / name
    masks = tuple(mask_folder / f"{path.stem}.png" for path in frames)
    if not masks[0].is_file():
        raise FileNotFoundError(
            f"sequence {name!r} has no first mask {masks[0]}; label propagation starts from the mask of the first frame"
        )
    missing = [path.name for path in masks if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"sequence {name!r} lacks {len(missing)} of {len(frames)} masks (first: {missing[0]}); "
            "scoring needs a ground-truth mask for every frame"
        )
    if len(frames) < 3:
        raise ValueError(
            f"sequence {name!r} has {len(frames)} frames, but the first and the last are not scored; give at least 3"
        )
    stems = {path.stem for path in frames}
    lost = [path for path in list_frames(mask_folder) if path.stem not in stems]
    if lost:
        raise FileNotFoundError(
            f"sequence {name!r} has no frame {lost[0].stem} for mask {lost[0]} ({len(lost)} such masks); add it, or "
            "remove the mask"
        )
    size = _check_sizes(name, frames, masks)
    if not object_ids(read_mask(masks[0])):
        raise ValueError(
            f"first mask {masks[0]} holds no object; give objects the ids 1, 2, ... (0 is background, {VOID} is void)"
        )
    return Video(name, frames, masks, size)


def find_frames(root: Path, name: str) -> tuple[Path, ...]:
    """Find the frames of a sequence in order of time; its masks need not be there.

    Raises:
        FileNotFoundError: If the root or the sequence is missing; names the nearest.
        ValueError: If two files are the same frame.
    """
    _require_root(root)
    parent = find_sequences(root / "JPEGImages", name)
    folder = parent / name
    frames = tuple(list_frames(folder)) if folder.is_dir() else ()
    if not frames:
        known = sorted(path.name for path in parent.glob("*") if path.is_dir())
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"nearest: {', '.join(close)}" if close else f"available: {', '.join(known[:20]) or 'none'}"
        raise FileNotFoundError(f"no frames of sequence {name!r} in {parent}; {hint}")
    return frames


def find_sequences(folder: Path, name: str) -> Path:
    """Find what holds the sequences below JPEGImages or Annotations: 480p, or else what is there.

    Args:
        folder: `JPEGImages` or `Annotations`.
        name: Of a sequence, to tell folders of sequences from those of resolutions.
    """
    if (folder / RESOLUTION).is_dir():
        return folder / RESOLUTION
    others = [path for path in sorted(folder.glob("*")) if (path / name).is_dir()]
    return folder if (folder / name).is_dir() or len(others) != 1 else others[0]


def _require_root(root: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"no DAVIS folder at {root}; it must hold JPEGImages, Annotations and ImageSets")


def _check_sizes(name: str, frames: Iterable[Path], masks: Iterable[Path]) -> tuple[int, int]:
    """Find the height and width that all frames and masks of a sequence share."""
    first: tuple[Path, tuple[int, int]] | None = None
    for path in (*frames, *masks):
        height, width = upright_size(path, f"{path.name} of sequence {name!r}")
        first = first or (path, (height, width))
        if (height, width) != first[1]:
            raise ValueError(
                f"sizes differ in sequence {name!r}: {path} is {width}x{height} pixels, "
                f"{first[0]} is {first[1][1]}x{first[1][0]}; frames and masks must share one size"
            )
    return first[1] if first else (0, 0)


def read_frame(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read a frame, upright and in RGB.

    Raises:
        OSError: If it cannot be read; names the sequence and the file.
    """
    return np.array(read_image(path, f"{path.parent.name}/{path.name}"))


def read_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read a mask as object ids.

    Raises:
        OSError: If it cannot be read; names the sequence and the file.
        ValueError: If the file stores colours instead of ids, or an id above 254.
    """
    with unreadable_as_os_error(f"{path.parent.name}/{path.name}"), Image.open(path) as image:
        mode, ids = image.mode, np.array(image)
    if mode not in {"P", "L", "1", "I", "I;16", "I;16B"}:
        raise ValueError(f"mask {path} has mode {mode}, colours instead of ids; save it as a palette or 8-bit grey PNG")
    if ids.max(initial=0) > VOID:
        raise ValueError(
            f"mask {path} holds object id {ids.max()}; a palette has room for ids up to {VOID - 1} ({VOID} is void)"
        )
    return ids.astype(np.uint8)


def network_size(size: tuple[int, int], patch: int, scale: float = 1.0, size_multiple: int = 64) -> tuple[int, int]:
    """Compute the rows and columns that an image is resized to, keeping its shape nearly.

    The short side becomes 480 · scale, or the nearest multiple of the patch where that is none. The long side follows
    and is cut down to a multiple of `size_multiple` (DINO's script: 64 whatever the patch), or of the patch where
    `size_multiple` is none of the patch (patch 14).

    Args:
        size: Height and width of the image.
        patch: Patch side in pixels.
        scale: Factor on 480.
        size_multiple: What the long side is a multiple of.

    Raises:
        ValueError: If the scale leaves less than a token.
    """
    wanted = SHORT_SIDE * scale
    short = round(wanted / patch) * patch
    if not short:
        raise ValueError(
            f"scale {scale} leaves a short side of {wanted:g} pixels, less than a patch of {patch}; use a larger scale"
        )
    multiple = patch if size_multiple % patch else size_multiple
    long = max(int(short * max(size) / min(size) // multiple) * multiple, multiple)
    return (short, long) if size[0] <= size[1] else (long, short)


def resize_frame(frame: UInt8[np.ndarray, "H W 3"], size: tuple[int, int]) -> UInt8[torch.Tensor, "3 rows columns"]:
    """Resize a frame to the network's input.

    Bilinear from the four nearest pixels, whatever the factor, and rounded to 8 bits: what the protocol's script gets
    from its image library.

    Args:
        frame: RGB image.
        size: Rows and columns of the result.
    """
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)[0].round_().to(torch.uint8)


def read_ahead(load: Callable[[Item], Loaded], items: Iterable[Item], num_workers: int) -> Iterator[Loaded]:
    """Yield results of `load` in order, made in threads while the caller works on earlier ones."""
    with ThreadPoolExecutor(num_workers, thread_name_prefix="read") as threads:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(threads.submit(load, item))
                if len(waiting) > 2 * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
