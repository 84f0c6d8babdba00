"""Salient segmentation with TokenCut (Table 3 of the SRT paper).

Shape legend: H W pixels of a photograph, C channels, h w tokens.

A photograph's tokens are cut in two, the seed's part is its salient region, and a bilateral solver may bring the
region's border to the photograph's edges. No training, no head: what is judged is whether features of an object are
alike and unlike the rest.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from srt_distill.files import replaced_file
from srt_distill.images import read_image, require_readable
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.regions import CutOptions, bilateral_solver, token_cut
from srt_distill.tasks.regions.keys import KeyOptions, KeyReader
from srt_distill.tasks.saliency.example import write_example
from srt_distill.tasks.saliency.folders import MaskedImage, open_masked_images, read_grey
from srt_distill.tasks.saliency.scores import (
    ToolboxCurves,
    accuracy,
    f_curve,
    intersection_over_union,
    max_f,
    token_cut_truth,
    toolbox_curves,
    toolbox_max_f,
    toolbox_truth,
)
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo
from srt_distill.visualization.overlays import overlay_mask

MASK, SOFT = "mask.png", "solver.png"
FAILED = "failed graphs"
FROM_SOLVER = " (solver)"


@dataclass(frozen=True)
class Saliency(Task):
    """Salient regions by TokenCut: maxF, IoU and accuracy on photographs with masks.

    Args:
        root: Folder with photographs and masks, named as in ECSSD, DUTS-TE, DUT-OMRON or SOD.
        solver: Also score the regions after the bilateral solver, as maps of soft values.
        convention: `tokencut`, the script that the published tables come from: F averaged over images, then the best
            threshold; or `toolbox`, sal_eval_toolbox: precision and recall averaged first, and mean absolute error.
        short_side: Pixels of the short side that photographs are resized to; null for their own size. Either way each
            side goes to the nearest multiple of the patch side, and masks are scored in the photograph's size.
        keys: Which features are cut.
        cut: The graph that is cut.
    """

    root: Path
    solver: bool = False
    convention: Literal["tokencut", "toolbox"] = "tokencut"
    short_side: int | None = None
    keys: KeyOptions = field(default_factory=KeyOptions)
    cut: CutOptions = field(default_factory=CutOptions)

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        if self.convention == "tokencut":
            scores = [Score("maxF"), Score("IoU"), Score("Acc")]
        else:
            scores = [Score("maxF (toolbox)"), Score("MAE", higher_is_better=False)]
        if self.solver:
            scores += [Score(score.name + FROM_SOLVER, score.higher_is_better) for score in scores]
        folder = self.root.resolve().name
        return TaskInfo(
            name="saliency-" + re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-"),
            version="1",
            title=f"Salient regions by TokenCut ({folder})",
            item="image",
            scores=(*scores, Score(FAILED, higher_is_better=False)),
            source="TokenCut (Wang et al., 2022), as in Table 3 of the SRT paper",
        )

    def settings(self) -> dict[str, Any]:
        """All that masks and scores depend on besides candidate and files."""
        return super().settings() | {"keys": asdict(self.keys), "cut": asdict(self.cut)}

    @cached_property
    def _images(self) -> dict[str, MaskedImage]:
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"short_side {self.short_side} is not positive; give pixels, such as 224, or null")
        return {image.name: image for image in open_masked_images(self.root)}

    def items(self) -> Sequence[Item]:
        """Find and check photographs and masks; see `srt_distill.tasks.saliency.folders.open_masked_images`.

        Raises:
            OSError: If a file is damaged.
            ValueError: If a mask cannot be understood, or none has both salient and other pixels.
        """
        require_readable(image.image for image in self._images.values())
        if not any([self._has_both(image.mask) for image in self._images.values()]):  # all are read
            raise ValueError(
                f"no mask of {self.root} has both salient pixels and others; a mask is 0 on the background and 255 on "
                "what is salient"
            )
        return [Item(image.name, (image.image, image.mask)) for image in self._images.values()]

    def _has_both(self, mask: Path) -> bool:
        grey = read_grey(mask)
        salient = token_cut_truth(grey) if self.convention == "tokencut" else toolbox_truth(grey)
        if grey.any() and not salient.any():
            raise ValueError(
                f"mask {mask} has no value above {grey.max()}, and the toolbox takes a tenth of 255 or more; save "
                "it with 255 on what is salient"
            )
        return bool(salient.any() and not salient.all())

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Find out whether the candidate has keys, and its patch side."""
        return KeyReader.probe(candidate, self.keys).to_tensors()

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Cut a photograph, and write and score the region, and the soft map of the solver if it is asked for."""
        image, reader = self._images[item.name], KeyReader.from_tensors(self.keys, prepared)
        photograph, grey = read_image(image.image), read_grey(image.mask)
        cut = token_cut(reader.read(candidate, self._resize(photograph, reader.multiple)), self.cut)
        region = upsample_region(cut.region, image.size)
        numbers = {
            "features": reader.source,
            "edge_share": cut.edge_share,
            FAILED: float(cut.failed),
            "region": self._score(region.astype(float), grey),
        }
        _write_grey(folder / MASK, region * np.uint8(255))
        if not self.solver:
            return Outcome(numbers, (MASK,))
        soft = bilateral_solver(np.asarray(photograph), region.astype(float))
        _write_grey(folder / SOFT, np.rint(soft.clip(0, 1) * 255).astype(np.uint8))
        return Outcome(numbers | {"solver": self._score(soft, grey)}, (MASK, SOFT))

    def _resize(self, photograph: Image.Image, multiple: int) -> UInt8[Tensor, "1 3 H W"]:
        """Bring each side by itself to the nearest multiple of the patch side (TokenCut's script)."""
        height, width = network_size((photograph.height, photograph.width), multiple, self.short_side)
        resized = photograph.resize((width, height), Image.Resampling.LANCZOS)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None]

    def _score(self, prediction: Float[np.ndarray, "H W"], grey: UInt8[np.ndarray, "H W"]) -> dict[str, Any]:
        """Note what pooling needs of one map, as plain numbers."""
        if self.convention == "toolbox":
            curves = toolbox_curves(prediction, grey)
            plain = {"precision": curves.precision.tolist(), "recall": curves.recall.tolist()}
            return plain | {"counts": curves.counts, "error": curves.error}
        truth, predicted = token_cut_truth(grey), prediction > 0.5
        return {
            "f_curve": _once_if_constant(f_curve(prediction, truth).tolist()),
            "IoU": intersection_over_union(predicted, truth),
            "Acc": accuracy(predicted, truth),
        }

    def pool(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Scores over images: of maxF the best threshold of all, of all others the mean."""
        pooled = self._pool_maps([outcome.numbers["region"] for outcome in outcomes])
        if self.solver:
            soft = self._pool_maps([outcome.numbers["solver"] for outcome in outcomes])
            pooled |= {name + FROM_SOLVER: value for name, value in soft.items()}
        return pooled | {FAILED: _mean([outcome.numbers[FAILED] for outcome in outcomes])}

    def _pool_maps(self, maps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        if self.convention == "tokencut":
            length = max(len(numbers["f_curve"]) for numbers in maps)
            curves = [n["f_curve"] * (length // len(n["f_curve"])) for n in maps]
            return {"maxF": max_f(np.array(curves))} | {
                name: _mean([numbers[name] for numbers in maps]) for name in ("IoU", "Acc")
            }
        curves = [ToolboxCurves(np.array(n["precision"]), np.array(n["recall"]), n["counts"], n["error"]) for n in maps]
        return {"maxF (toolbox)": toolbox_max_f(curves), "MAE": _mean([curve.error for curve in curves])}

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Read the photograph in the candidate's size."""
        reader = KeyReader.probe(candidate, self.keys)
        return self._resize(read_image(self._images[item.name].image), reader.multiple)

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Masks over the photograph, and below them the solver's soft maps."""
        image = self._images[item.name]
        photograph = np.asarray(read_image(image.image))
        truth = token_cut_truth(read_grey(image.mask))
        first = {"image": photograph, "ground truth": overlay_mask(photograph, truth.astype(np.uint8))}
        regions = {name: read_grey(folders[name] / MASK) > 127 for name in outcomes}
        rows = [("TokenCut", first | {n: overlay_mask(photograph, r.astype(np.uint8)) for n, r in regions.items()})]
        if self.solver:
            soft = {name: _as_rgb(read_grey(folders[name] / SOFT)) for name in outcomes}
            plain = {"image": photograph, "ground truth": _as_rgb(truth * np.uint8(255))}
            rows.append(("bilateral solver", plain | soft))
        return Sheet(tuple(rows))

    @classmethod
    def example(cls, folder: Path) -> "Saliency":
        """Three photographs of 64x96 pixels with one ellipse each, in ECSSD's layout."""
        write_example(folder)
        return cls(folder)


def network_size(size: tuple[int, int], multiple: int, short_side: int | None = None) -> tuple[int, int]:
    """Height and width nearest to a photograph's that tokens tile, each side by itself.

    Args:
        size: Height and width of the photograph, in pixels.
        multiple: What sides must be a multiple of.
        short_side: What the short side is scaled to first; None for no scaling.
    """
    scale = 1.0 if short_side is None else short_side / min(size)
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return height, width


def upsample_region(region: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Bring a region of tokens to a photograph's height and width, by nearest neighbour."""
    tokens = torch.from_numpy(region)[None, None].float()
    return torch.nn.functional.interpolate(tokens, size, mode="nearest")[0, 0].numpy() > 0


def _once_if_constant(curve: list[float]) -> list[float]:
    """Keep one value of a curve that has no other: that of a mask of zeros and ones."""
    return curve[:1] if min(curve) == max(curve) else curve


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _as_rgb(grey: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return np.repeat(grey[..., None], 3, axis=-1)


def _write_grey(path: Path, values: UInt8[np.ndarray, "H W"]) -> None:
    with replaced_file(path) as temporary:
        Image.fromarray(values).save(temporary)
