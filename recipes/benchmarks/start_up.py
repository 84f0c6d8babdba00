"""What a user waits for before anything happens: help, the index of a large folder, the first training step.

Claim:    `srt-distill --help` takes under a second, a fraction of importing torch; the first training step on a folder
          of 100,000 images comes within a minute; the index costs tens of bytes an image
Command:  python recipes/benchmarks/start_up.py
Takes:    about 2 minutes on 2 CPU cores; makes 100,000 names (hard links to a few files) in a temporary folder

The step is timed as the whole command, from the shell to its end: start of Python, imports, index, models, one step,
its checkpoint. Nothing is held out, so that nothing but the step is waited for; `--held_out 0.05` is fit's default.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import RESULTS, seconds, write_table
from PIL import Image

from srt_distill.data import ImageFolder
from srt_distill.latency import time_pairs

CPU = torch.device("cpu")
BACKBONE = Path(__file__).resolve().parents[2] / "checkpoints" / "demo"
IMAGES_PER_FOLDER = 1000


def make_images(root: Path, num_images: int) -> None:
    """So many JPEG names, 1000 a folder; in each they are links to one file, as file systems limit links."""
    generator = np.random.default_rng(0)
    for first in range(0, num_images, IMAGES_PER_FOLDER):
        folder = root / f"{first // IMAGES_PER_FOLDER:04d}"
        folder.mkdir(parents=True)
        original = folder / "image_000000.jpg"
        Image.fromarray(generator.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(original)
        for number in range(1, min(IMAGES_PER_FOLDER, num_images - first)):
            os.link(original, folder / f"image_{number:06d}.jpg")


def measure_index(root: Path) -> tuple[int, int]:
    """Bytes that the index of a folder holds, and that making it takes at its peak."""
    tracemalloc.start()
    images = ImageFolder(root)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if not len(images):
        raise RuntimeError(f"the index of {root} is empty; nothing was measured")
    return held, peak


def run(*words: str) -> None:
    """Run Python quietly; a failure is an error with what it said."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(words)} failed: {done.stderr[-2000:]}")


def fit_one_step(images: Path, run_folder: Path, backbone: Path, held_out: str) -> None:
    """`srt-distill fit` for one step."""
    options = {
        "--model.backbone": f"local-dir:{backbone}",
        "--model.target": "SampledShifts",
        "--model.target.num_shifts": "4",
        "--model.relations.weight": "0",
        "--data.source": "ImageFolder",
        "--data.source.root": str(images),
        "--data.crop_size": "64",
        "--data.batch_size": "4",
        "--data.num_workers": "0",
        "--data.held_out": held_out,
        "--trainer.accelerator": "cpu",
        "--trainer.max_steps": "1",
        "--trainer.logger": "false",
        "--trainer.default_root_dir": str(run_folder),
    }
    run("-m", "srt_distill", "fit", *(word for pair in options.items() for word in pair))


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--backbone", type=Path, default=BACKBONE, help="timm folder that is trained for a step")
    parser.add_argument("--held_out", default="0", help="share or number of images held out and measured on")
    parser.add_argument("--pairs", type=int, default=5, help="calls of --help, each beside one `import torch`")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)

    asking, importing = partial(run, "-m", "srt_distill", "--help"), partial(run, "-c", "import torch")
    latency = time_pairs(asking, importing, CPU, max_pairs=options.pairs, budget=60.0)
    with tempfile.TemporaryDirectory() as temporary:
        images = Path(temporary) / "images"
        make_images(images, options.images)
        indexing = seconds(partial(ImageFolder, images))
        held, peak = measure_index(images)
        step = seconds(partial(fit_one_step, images, Path(temporary) / "run", options.backbone, options.held_out))
    each, number = held / options.images, f"{options.images:,} images"
    rows = [
        ["`srt-distill --help`", f"{latency.seconds:.2f} s"],
        ['`python -c "import torch"`', f"{latency.reference_seconds:.2f} s"],
        [f"**help over import** (median of {latency.num_pairs} pairs in turns)", f"**{latency.ratio:.3f}**"],
        [f"index of {number}", f"{indexing:.2f} s"],
        ["memory of that index", f"{held / 2**20:.1f} MiB, {each:.0f} bytes an image"],
        ["memory while it is made, at the peak", f"{peak / 2**20:.1f} MiB"],
        [f"`srt-distill fit` on {number}, command to end of its first step", f"{step:.1f} s"],
    ]
    claim = """Help against importing torch, in fresh processes; index of a folder and its memory (tracemalloc); the
whole `srt-distill fit` command that makes one training step of the demo's backbone on that folder."""
    write_table(options.output, "start_up", claim, CPU, ["what", "measured"], rows)


if __name__ == "__main__":
    main()
