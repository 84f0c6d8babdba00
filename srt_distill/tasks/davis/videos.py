"""Videos in the DAVIS layout: finding, checking and reading them.

Shape legend: H W pixels of an image as stored, rows columns pixels of the network's input, p patch side in pixels.

    ImageSets/<year>/<split>.txt        one sequence name a line
    JPEGImages/480p/<name>/00000.jpg    frames
    Annotations/480p/<name>/00000.png   masks, pixel value = object id, 0 background, 255 void
"""

import difflib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image

from srt_distill.tasks.davis.sequence_scores import VOID, count_objects

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
        masks: One mask file a frame.
        size: Height and width in pixels, the same for all.
        num_objects: Highest object id in the first mask.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    size: tuple[int, int]
    num_objects: int

    def digest(self) -> str:
        """Hash of names and contents of all files; changes with any of them."""
        state = hashlib.sha256()
        for path in (*self.frames, *self.masks):
            state.update(path.name.encode() + b"\0")
            state.update(hashlib.sha256(path.read_bytes()).digest())
        return state.hexdigest()


def list_sequences(root: Path, split: str = "val", year: str = "2017") -> list[str]:
    """Names in a split list.

    Raises:
        FileNotFoundError: If the root or the list is missing; names the lists there are.
        ValueError: If the list is empty.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no DAVIS folder at {root}; it must hold JPEGImages, Annotations and ImageSets")
    listing = root / "ImageSets" / year / f"{split}.txt"
    if not listing.is_file():
        available = sorted(str(path.relative_to(root)) for path in (root / "ImageSets").glob("*/*.txt"))
        raise FileNotFoundError(
            f"no split list {listing.relative_to(root)} in {root}; available: {', '.join(available) or 'none'}"
        )
    names = listing.read_text().split()
    if not names:
        raise ValueError(f"split list {listing} is empty; write one sequence name a line")
    return names


def open_videos(root: Path, names: Sequence[str]) -> list[Video]:
    """`open_video` for several names, each once; all are checked before any work starts."""
    return [open_video(root, name) for name in dict.fromkeys(names)]


def open_video(root: Path, name: str) -> Video:
    """Find and check one sequence; reads image headers and the first mask only.

    Args:
        root: The DAVIS folder.
        name: Of the sequence.

    Raises:
        FileNotFoundError: If the root, the sequence, its first mask or another mask is missing.
        ValueError: If there are fewer than three frames, sizes differ or the first mask holds no object.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no DAVIS folder at {root}; it must hold JPEGImages, Annotations and ImageSets")
    frame_folder, mask_folder = root / "JPEGImages" / RESOLUTION / name, root / "Annotations" / RESOLUTION / name
    frames = tuple(sorted(path for path in frame_folder.glob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"}))
    if not frames:
        known = sorted(path.name for path in frame_folder.parent.glob("*") if path.is_dir())
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"nearest: {', '.join(close)}" if close else f"available: {', '.join(known[:20]) or 'none'}"
        raise FileNotFoundError(f"no frames of sequence {name!r} in {frame_folder.parent}; {hint}")
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
    height, width = _check_sizes(name, frames, masks)
    num_objects = count_objects(read_mask(masks[0]))
    if not num_objects:
        raise ValueError(
            f"first mask {masks[0]} holds no object; give objects the ids 1, 2, ... (0 is background, {VOID} is void)"
        )
    return Video(name, frames, masks, (height, width), num_objects)


def _check_sizes(name: str, frames: Iterable[Path], masks: Iterable[Path]) -> tuple[int, int]:
    """Height and width that all frames and masks of a sequence share."""
    first: tuple[Path, tuple[int, int]] | None = None
    for path in (*frames, *masks):
        with Image.open(path) as image:
            first = first or (path, image.size)
            if image.size != first[1]:
                raise ValueError(
                    f"sizes differ in sequence {name!r}: {path} is {image.width}x{image.height} pixels, "
                    f"{first[0]} is {first[1][0]}x{first[1][1]}; frames and masks must share one size"
                )
    width, height = first[1] if first else (0, 0)
    return height, width


def read_frame(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """An image as RGB."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def read_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """A mask as object ids.

    Raises:
        ValueError: If the file stores colours instead of ids, or an id above 254.
    """
    with Image.open(path) as image:
        if image.mode not in {"P", "L", "1", "I", "I;16", "I;16B"}:
            raise ValueError(
                f"mask {path} has mode {image.mode}, colours instead of ids; save it as a palette or 8-bit grey PNG"
            )
        ids = np.array(image)
    if ids.max(initial=0) > VOID:
        raise ValueError(
            f"mask {path} holds object id {ids.max()}; a palette has room for ids up to {VOID - 1} ({VOID} is void)"
        )
    return ids.astype(np.uint8)


def network_size(size: tuple[int, int], patch: int, scale: float = 1.0, size_multiple: int = 64) -> tuple[int, int]:
    """Rows and columns an image is resized to, keeping its shape nearly.

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


def prepare_frame(
    frame: UInt8[np.ndarray, "H W 3"],
    size: tuple[int, int],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Float[torch.Tensor, "3 rows columns"]:
    """Resize and normalise a frame.

    Bilinear from the four nearest pixels, whatever the factor, and rounded to 8 bits: what the protocol's script gets
    from its image library.

    Args:
        frame: RGB image.
        size: Rows and columns of the result.
        mean: Per channel, for values in [0, 1].
        std: Per channel.
    """
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)[0].round_().div_(255)
    return (resized - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def read_ahead(load: Callable[[Item], Loaded], items: Iterable[Item], num_workers: int) -> Iterator[Loaded]:
    """Results of `load` in order, made in threads while the caller works on earlier ones."""
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
