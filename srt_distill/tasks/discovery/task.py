"""Object discovery with TokenCut and LOST (Table 4 of the SRT paper).

Shape legend: H W pixels, C channels, h w tokens.

One box is drawn per photograph, round the region that either method finds; it counts if it overlaps any annotated
object by half. Photographs keep their size and are padded at the bottom and right up to whole patches, with the mean
colour, which is 0 after normalisation. A candidate that shifts the image (SRT) shifts that padded canvas.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from srt_distill.images import Normalization, read_image, require_readable
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.discovery.corloc import finds_object
from srt_distill.tasks.discovery.example import write_example
from srt_distill.tasks.discovery.voc import Photograph, find_voc, open_photographs
from srt_distill.tasks.regions import CutOptions, lost, token_cut
from srt_distill.tasks.regions.components import Box, enclosing_box
from srt_distill.tasks.regions.keys import KeyOptions, KeyReader
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo

METHODS = {"TokenCut": "CorLoc", "LOST": "CorLoc (LOST)"}
FAILED = "failed graphs"
TRUTH_COLOR, FOUND_COLOR, MISSED_COLOR = (60, 220, 60), (255, 220, 0), (255, 60, 60)


@dataclass(frozen=True)
class Discovery(Task):
    """One object per photograph, found by TokenCut and by LOST: the share of boxes that fit (CorLoc).

    Args:
        root: Folder in the layout of PASCAL VOC, such as VOCdevkit/VOC2007.
        split: Name of the list under ImageSets/Main; published numbers are of trainval.
        no_hard: Leave out objects marked difficult or truncated, and photographs with no other object.
        keys: Which features are compared.
        cut: TokenCut's graph.
    """

    root: Path
    split: str = "trainval"
    no_hard: bool = False
    keys: KeyOptions = field(default_factory=KeyOptions)
    cut: CutOptions = field(default_factory=CutOptions)

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        folder = find_voc(self.root).resolve().name
        return TaskInfo(
            name="discovery-" + re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-"),
            version="1",
            title=f"Object discovery by TokenCut and LOST ({folder})",
            item="image",
            scores=(
                *(Score(name) for name in METHODS.values()),
                *(Score(name, higher_is_better=name == "won") for name in ("won", "lost")),
                Score(FAILED, higher_is_better=False),
            ),
            source="TokenCut (Wang et al., 2022) and LOST (Siméoni et al., 2021), as in Table 4 of the SRT paper",
        )

    def settings(self) -> dict[str, Any]:
        """All that boxes and scores depend on besides candidate and files."""
        return super().settings() | {"keys": asdict(self.keys), "cut": asdict(self.cut)}

    @cached_property
    def _photographs(self) -> dict[str, Photograph]:
        return {found.name: found for found in open_photographs(self.root, self.split, self.no_hard)}

    def items(self) -> Sequence[Item]:
        """Find and check photographs and boxes; see `srt_distill.tasks.discovery.voc.open_photographs`."""
        require_readable(found.image for found in self._photographs.values())
        return [Item(found.name, (found.image, found.annotation)) for found in self._photographs.values()]

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Find out whether the candidate has keys, and its patch side."""
        return KeyReader.probe(candidate, self.keys).to_tensors()

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Draw both boxes of a photograph; nothing is written."""
        photograph, reader = self._photographs[item.name], KeyReader.from_tensors(self.keys, prepared)
        canvas = pad_to_tokens(read_image(photograph.image), reader.multiple, candidate.normalization)
        features = reader.read(candidate, canvas)
        cut = token_cut(features, self.cut)
        regions = {"TokenCut": cut.region, "LOST": lost(features)[0]}
        boxes = {name: enclosing_box(region, reader.stride, photograph.size) for name, region in regions.items()}
        found = {METHODS[name]: float(finds_object(box, photograph.boxes)) for name, box in boxes.items()}
        return Outcome(
            {
                "features": reader.source,
                "edge_share": cut.edge_share,
                FAILED: float(cut.failed),
                **found,
                "boxes": {name: list(box) for name, box in boxes.items()},
            }
        )

    def pool(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Shares of images: found by either method, and with a graph that failed."""
        names = (*METHODS.values(), FAILED)
        return {name: float(np.mean([outcome.numbers[name] for outcome in outcomes])) for name in names}

    def relate(self, outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> dict[str, float]:
        """Count images on which TokenCut finds an object where the reference does not, and the other way round."""
        gains = [o.numbers["CorLoc"] - r.numbers["CorLoc"] for o, r in zip(outcomes, reference, strict=True)]
        return {"won": float(sum(gain > 0 for gain in gains)), "lost": float(sum(gain < 0 for gain in gains))}

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Pad the photograph for the candidate, the padding rounded to bytes."""
        reader = KeyReader.probe(candidate, self.keys)
        image = read_image(self._photographs[item.name].image)
        return pad_to_tokens(image, reader.multiple, candidate.normalization).round().to(torch.uint8)

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Boxes on the photograph: yellow where an object was found, red where not, annotated ones green."""
        photograph = self._photographs[item.name]
        image = read_image(photograph.image)
        truth = draw_boxes(image, photograph.boxes, TRUTH_COLOR)
        rows = []
        for method, score in METHODS.items():
            pictures = {"image": np.asarray(image), "ground truth": truth}
            for candidate, outcome in outcomes.items():
                color = FOUND_COLOR if outcome.numbers[score] else MISSED_COLOR
                pictures[candidate] = draw_boxes(image, [outcome.numbers["boxes"][method]], color)
            rows.append((method, pictures))
        return Sheet(tuple(rows))

    @classmethod
    def example(cls, folder: Path) -> "Discovery":
        """Three photographs of 60x90 pixels with one rectangle each."""
        write_example(folder)
        return cls(folder)


def pad_to_tokens(image: Image.Image, multiple: int, normalization: Normalization) -> Float[Tensor, "1 3 H W"]:
    """Pad a photograph at the bottom and right, with what normalisation makes 0.

    Args:
        image: RGB.
        multiple: What sides must be a multiple of, in pixels.
        normalization: The candidate's.

    Returns:
        Values 0 to 255; those of the padding are no whole numbers.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    height, width = pixels.shape[1:]
    size = -(-height // multiple) * multiple, -(-width // multiple) * multiple
    canvas = 255 * torch.tensor(normalization.mean)[:, None, None].repeat(1, *size)
    canvas[:, :height, :width] = pixels
    return canvas[None]


def draw_boxes(
    image: Image.Image, boxes: Sequence[Box | list[int]], color: tuple[int, int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Copy a picture and draw boxes on it, with lines a hundredth of its longer side wide."""
    picture = image.copy()
    pen = ImageDraw.Draw(picture)
    for left, top, right, bottom in boxes:
        pen.rectangle((left, top, right - 1, bottom - 1), outline=color, width=max(1, max(image.size) // 100))
    return np.asarray(picture)
