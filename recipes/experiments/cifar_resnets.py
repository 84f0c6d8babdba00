"""Claim: SRT before the head lowers the error of CIFAR-10 ResNets, untrained (Table 6: by 5.6 to 6.3% of the errors).

Released ResNet-20, 32 and 56, single pass against SRT of radius 1 to 4 with edge and with circular borders, and against
the mean of logits over the same shifts, which needs no undoing: a mean and a linear layer are all that follows the map.

Run:       python recipes/experiments/cifar_resnets.py DATA WEIGHTS [--radius 4] [--num_images 1000]
           DATA is a Parquet file or data set of CIFAR-10 test images; WEIGHTS a folder with
           cifar10_resnet<depth>.safetensors
Hardware:  a CPU will do: 163 passes per image; 1,000 images take minutes for ResNet-20
Expected:  the paper (other weights, 10,000 images): 91.95 to 92.41, 92.68 to 93.14, 93.50 to 93.87. Gains of a few
           images in 1,000 are within chance: the page has McNemar's test beside each. Writes results.json and README.md
           to recipes/results/cifar_resnets and skips networks that are there.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from srt_distill.files import write_file
from srt_distill.images import IMAGENET
from srt_distill.tasks.cifar import load_resnet
from srt_distill.tasks.cifar.candidates import PAPER
from srt_distill.tasks.cifar.sweep import sweep_radii
from srt_distill.tasks.classification.labelled_images import open_labelled
from srt_distill.tasks.classification.mcnemar import mcnemar
from srt_distill.tasks.classification.preprocessing import resize_and_crop

OUTPUT = Path(__file__).resolve().parents[1] / "results" / "cifar_resnets"
BATCH = 50


def check_data(data: Path, files: list[Path], num_images: int | None) -> None:
    """Check images, labels and networks before work.

    Raises:
        OSError: If a file or an image cannot be read.
        ValueError: If a file holds no network, or an image has no class that it knows or another size than the first.
    """
    images = open_labelled(data, "test", num_images)
    known = min(load_resnet(file).linear.out_features for file in files)
    size = images.read(0).size
    for index, (name, label) in enumerate(zip(images.names, images.labels, strict=True)):
        if label is None or label >= known:
            raise ValueError(f"image {name} of {data} has label {label}; every image needs one of 0 to {known - 1}")
        if images.read(index).size != size:
            raise ValueError(f"image {name} of {data} is not {size[0]}x{size[1]} as the first; bring all to one size")


def measure(weights: Path, data: Path, radius: int, num_images: int | None) -> dict[str, Any]:
    """Count what a network has right in every row.

    Args:
        weights: Of a released ResNet.
        data: CIFAR-10 test images.
        radius: The largest d.
        num_images: The first so many; None for all.
    """
    model, images = load_resnet(weights), open_labelled(data, "test", num_images)
    right: dict[str, list[bool]] = {}
    start = time.perf_counter()
    for first in range(0, len(images), BATCH):
        chosen = range(first, min(first + BATCH, len(images)))
        pixels = torch.cat([resize_and_crop(images.read(index), None, None) for index in chosen])
        labels = torch.tensor([images.labels[index] for index in chosen])
        with torch.inference_mode():
            for name, logits in sweep_radii(model, IMAGENET(pixels), radius):
                right.setdefault(name, []).extend((logits.argmax(1) == labels).tolist())
    single, *_ = right.values()
    rows = [{"name": name, "right": sum(found), **asdict(mcnemar(found, single))} for name, found in right.items()]
    return {"depth": model.depth, "num_images": len(images), "seconds": time.perf_counter() - start, "rows": rows}


def write_page(results: list[dict[str, Any]], command: str) -> str:
    """Lay out all networks in one Markdown page."""
    lines = ["# CIFAR-10 ResNets", "", f"`{command}`", ""]
    for result in results:
        depth, total = result["depth"], result["num_images"]
        paper = (
            "The paper's weights on all 10,000: {} alone, {} under SRT.".format(*PAPER[depth]) if depth in PAPER else ""
        )
        lines += [
            f"## ResNet-{depth}",
            "",
            f"First {total:,} test images. {paper}".strip(),
            "",
            "| row | right | top-1 | gained | lost | McNemar's p |",
            "|---|---|---|---|---|---|",
        ]
        for row in result["rows"]:
            test = f"{row['gained']} | {row['lost']} | {row['p_value']:.3f}" if row is not result["rows"][0] else "| |"
            lines.append(f"| {row['name']} | {row['right']} | {100 * row['right'] / total:.1f} | {test} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure every network in a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="CIFAR-10 test images")
    parser.add_argument("weights", type=Path, help="folder of cifar10_resnet<depth>.safetensors")
    parser.add_argument("--radius", type=int, default=4, help="largest d, in pixels")
    parser.add_argument("--num_images", type=int, default=None, help="the first so many; default all")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where results go")
    options = parser.parse_args(arguments)
    files = sorted(options.weights.glob("cifar10_resnet*.safetensors"))
    if not files:
        parser.error(f"no cifar10_resnet<depth>.safetensors in {options.weights}")
    check_data(options.data, files, options.num_images)
    store = options.output / "results.json"
    settings = {"radius": options.radius, "num_images": options.num_images}
    command = f"python recipes/experiments/cifar_resnets.py DATA WEIGHTS --radius {options.radius}"
    command += f" --num_images {options.num_images}" if options.num_images else ""
    found = json.loads(store.read_text()) if store.is_file() else {}
    done = found.get("networks", {}) if found.get("settings") == settings else {}
    for file in files:
        if file.stem not in done:
            done[file.stem] = measure(file, options.data, options.radius, options.num_images)
            write_file(store, json.dumps({"settings": settings, "networks": done}, indent=1) + "\n")
        results = sorted(done.values(), key=lambda result: result["depth"])
        write_file(options.output / "README.md", write_page(results, command))
    print((options.output / "README.md").read_text())


if __name__ == "__main__":
    main()
