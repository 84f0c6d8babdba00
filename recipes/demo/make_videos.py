"""Videos with exact masks, composed from the photographs that scikit-image and scikit-learn install.

Shape legend: H W pixels.

Claim:    unlabeled training videos and labelled validation videos without a common photograph, from packages alone
Command:  python recipes/demo/make_videos.py --root runs/demo/videos
Takes:    about 20 seconds on 2 CPU cores

The layout is DAVIS-2017's, so everything that reads DAVIS reads these. Training masks are written too, for the eye; the
distillation never opens them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from photos import PHOTOS, Split, load_photos
from PIL import Image
from scene import Scene, draw_scene, render
from torch import Tensor

from srt_distill.files import Holding, replaced_folder
from srt_distill.tasks.davis.mask_files import write_mask

SPLIT_SEEDS: dict[Split, int] = {"train": 0, "val": 1}
OBJECTS = (2, 3, 4)  # in turn, a sequence each
LEAST_VISIBLE = 0.01  # share of the first frame that every object shows, so that its mask survives the token grid
JPEG_QUALITY = 92
SETTINGS_FILE = "demo.json"


def draw_video(
    photos: list[Float[Tensor, "3 _ _"]], split: Split, index: int, height: int, width: int, seed: int
) -> Scene:
    """Compose the scene of one sequence; every object is in plain sight in its first frame.

    Args:
        photos: Those of the split.
        split: Part of the seed.
        index: Of the sequence in its split; backgrounds take turns.
        height: Of a frame, pixels.
        width: Of a frame, pixels.
        seed: Changes every choice but the photograph of the background.

    Returns:
        The scene, with 2 to 4 objects.
    """
    background = index % len(photos)
    textures = photos[:background] + photos[background + 1 :]
    rng = np.random.default_rng([seed, SPLIT_SEEDS[split], index])
    while True:
        scene = draw_scene(photos[background], textures, OBJECTS[index % len(OBJECTS)], height, width, rng)
        _, labels = render(scene, 0.0)
        visible = torch.bincount(labels.flatten().long(), minlength=len(scene.shapes) + 1)[1:]
        if visible.min() >= LEAST_VISIBLE * height * width:
            return scene


def make_demo_videos(
    root: str | Path,
    *,
    num_train: int = 20,
    num_val: int = 6,
    train_frames: int = 6,
    val_frames: int = 20,
    height: int = 240,
    width: int = 448,
    seed: int = 0,
) -> None:
    """Write the demo's videos in DAVIS-2017 layout; the same arguments give the same videos.

    Args:
        root: Folder to make. One that holds the videos of these very arguments is left as it is.
        num_train: Sequences of the unlabeled target domain.
        num_val: Labelled sequences, from other photographs.
        train_frames: Frames of each training sequence.
        val_frames: Frames of each validation sequence.
        height: Of a frame, pixels.
        width: Of a frame, pixels.
        seed: Of all choices.

    Raises:
        FileExistsError: If the folder holds anything else.
        FileNotFoundError: If the photographs are not installed.
    """
    root = Path(root)
    settings = {
        "num_train": num_train,
        "num_val": num_val,
        "train_frames": train_frames,
        "val_frames": val_frames,
        "height": height,
        "width": width,
        "seed": seed,
    }
    marker = root / SETTINGS_FILE
    if marker.exists() and json.loads(marker.read_text()) == settings:
        return
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(
            f"{root} already holds something else than these videos; remove it or name another folder"
        )
    plan: dict[Split, tuple[int, int]] = {"train": (num_train, train_frames), "val": (num_val, val_frames)}
    with replaced_folder(root, Holding(SETTINGS_FILE, ())) as folder:
        for split, (num_sequences, num_frames) in plan.items():
            photos, names = load_photos(split), []
            for index in range(num_sequences):
                names.append(f"{_subject(split, index)}-{index:02d}")
                _write_video(folder, names[-1], draw_video(photos, split, index, height, width, seed), num_frames)
            lists = folder / "ImageSets" / "2017"
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=1) + "\n")


def _subject(split: Split, index: int) -> str:
    """Name what the background of a sequence shows, from its file's name."""
    files = PHOTOS[split]
    return Path(files[index % len(files)]).stem.split("_")[0]


def _write_video(root: Path, name: str, scene: Scene, num_frames: int) -> None:
    images, annotations = (root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    images.mkdir(parents=True)
    for index in range(num_frames):
        image, labels = render(scene, index / max(1, num_frames - 1))
        _write_jpeg(images / f"{index:05d}.jpg", image)
        write_mask(annotations / f"{index:05d}.png", labels.numpy())


def _write_jpeg(path: Path, image: UInt8[Tensor, "H W 3"]) -> None:
    Image.fromarray(image.numpy()).save(path, quality=JPEG_QUALITY, subsampling=0)


def main() -> None:
    """Parse the command line and write the videos."""
    parser = argparse.ArgumentParser(description="Write the demo's videos in DAVIS-2017 layout.")
    parser.add_argument("--root", type=Path, default=Path("runs/demo/videos"), help="folder to make")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_demo_videos(arguments.root, seed=arguments.seed)
    print(f"videos in {arguments.root}")


if __name__ == "__main__":
    main()
