"""Depth from frozen features as a task: a head trained on the training split judges every test image.

Shape legend: C channels, h w tokens, H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor, nn

from srt_distill.files import write_file
from srt_distill.images import require_readable, upright_size
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.canvas import (
    Padding,
    Placement,
    find_patch,
    pad_to_patch,
    read_bytes,
    shift_pixels,
)
from srt_distill.tasks.depth.heads import DPT, DepthHead, LinearBins
from srt_distill.tasks.depth.layouts import DepthPair, open_split, read_depth
from srt_distill.tasks.depth.losses import NUM_MEAN_ONLY, log_gradient_loss, silog_loss
from srt_distill.tasks.depth.scores import EIGEN_SIZE, Scaling, score_depth, scored_pixels
from srt_distill.tasks.heads import HeadTraining, Sample, keep_features, spread_evenly, train_head
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo, digest_files

DEPTH_FILE = "depth.png"  # millimetres, 16-bit
DEPTH_TRAINING = HeadTraining(weight_decay=0.01)
FOUR_BLOCKS = (2, 5, 8, 11)  # of 12, as DINOv2's heads of ViT-S and ViT-B


@dataclass(frozen=True)
class Depth(Task):
    """Depth by a head trained on frozen features (paper, Tables 2 and 8).

    NYU-v2 as DINOv2 judges it: limits 0.001 and 10 metres, crop `eigen`. 7-Scenes: a maximum of 4 metres, no crop.

    Args:
        root: Folder with the splits.
        train: Split that heads learn from: a folder with rgb and depth, or a list of 'image depth' lines; may lie
            elsewhere, relative to the root.
        test: Split that is judged.
        units_per_metre: What depth files count in: 1000 for millimetres, 256 for KITTI and SRT's public script.
        invalid: Values in depth files that mean unknown.
        min_depth: In metres; truth at or below it is not scored, and heads give no less.
        max_depth: In metres; truth at or above it is not scored, and heads give no more.
        crop: `eigen` scores the usual box of a 480x640 frame alone.
        scaling: `median` brings each prediction to the median of its truth first, as SRT's public script does.
        head: `linear` bins over one block, `linear4` over four, or `dpt`.
        layers: Blocks that the head reads, before the final norm; none given means the last for `linear` and 2, 5, 8,
            11 for the others, the reference's of 12 blocks (of 24: 4, 11, 17, 23; of 40: 9, 19, 29, 39).
        class_token: Give the head each block's class token beside its tokens.
        num_bins: Depths that the linear heads average.
        short_side: Pixels that an image's short side is brought to; none leaves images as they are.
        padding: What becomes of outputs where images were padded to whole patches.
        gradient_weight: Of the loss of log gradients beside the scale-invariant one; the paper's heads saw none.
        num_train: Training images, evenly spread over the split; none for all.
        training: Of the heads.
    """

    root: Path
    train: str = "train"
    test: str = "test"
    units_per_metre: float = 1000.0
    invalid: tuple[int, ...] = (0, 65535)
    min_depth: float = 0.001
    max_depth: float = 10.0
    crop: Literal["none", "eigen"] = "none"
    scaling: Scaling = "none"
    head: DepthHead = "linear"
    layers: tuple[int, ...] = ()
    class_token: bool = True
    num_bins: int = 256
    short_side: int | None = None
    padding: Padding = "stretch"
    gradient_weight: float = 0.0
    num_train: int | None = None
    training: HeadTraining = DEPTH_TRAINING

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.max_depth:
            raise ValueError(
                f"depth limits {self.min_depth} and {self.max_depth} m: the first must be above 0 and below the other"
            )
        if self.head != "linear" and len(self._layers) != 4:
            raise ValueError(f"head {self.head} reads four blocks, not {self._layers}; give four layers")

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        return TaskInfo(
            name=f"depth-{self.root.name.lower()}",
            version="1",
            title=f"Depth, {self.root.name}",
            item="image",
            scores=(
                Score("RMSE", False, "m"),
                Score("RMSE_log", False),
                Score("AbsRel", False),
                Score("SqRel", False, "m"),
                Score("a1"),
                Score("a2"),
                Score("a3"),
            ),
            source="DINOv2's depth evaluation (Oquab et al., 2024); SRT, Tables 2 and 8",
        )

    def items(self) -> Sequence[Item]:
        """List an item per test image and seed, both splits checked.

        Raises:
            FileNotFoundError: If a split or a file is missing.
            OSError: If a file is damaged.
            ValueError: If a pair does not fit, no image of a split has a known depth, or Eigen's crop meets another
                size.
        """
        training, tested = self._training_pairs(), open_split(self.root, self.test)
        require_readable(path for pair in (*training, *tested) for path in (pair.image, pair.depth))
        if not any((self._read(pair) > 0).any() for pair in training):
            raise ValueError(f"no depth map of {self.root / self.train} has a known pixel; check `invalid`")
        for pair in tested:
            if self.crop == "eigen" and (size := upright_size(pair.image)) != EIGEN_SIZE:
                raise ValueError(
                    f"{pair.image} is {size[1]}x{size[0]} pixels; crop 'eigen' is a box of 640x480: use crop 'none'"
                )
        if not any(self._scored(self._read(pair)).any() for pair in tested):
            raise ValueError(
                f"no depth map of {self.root / self.test} has a known pixel between {self.min_depth} and "
                f"{self.max_depth} m; check `units_per_metre` ({self.units_per_metre:g}), `invalid` and the limits"
            )
        seeds = range(self.training.seeds)
        return [
            Item(f"{pair.name} seed {seed}", (pair.image, pair.depth), 1, seed) for pair in tested for seed in seeds
        ]

    def settings(self) -> dict[str, Any]:
        """Give the options, and a digest of what heads are trained on."""
        files = [path for pair in self._training_pairs() for path in (pair.image, pair.depth)]
        options = {name: value for name, value in asdict(self).items() if name not in ("root", "train", "test")}
        return {**options, "training_files": digest_files(files)}

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Train a head per seed on the training split; features are extracted once."""
        patch = self._patch(candidate)
        samples = []
        for pair in self._training_pairs():
            canvas, placement = self._canvas(candidate, pair.image, patch)
            samples.append(
                Sample(keep_features(self._maps(candidate, canvas)), torch.from_numpy(self._read(pair)), placement)
            )
        prepared = {"patch": torch.tensor(patch)}
        for seed in range(self.training.seeds):
            state = train_head(self._make_head, samples, self._loss, self.training, seed, candidate.device)
            prepared.update({f"{seed}.{name}": value for name, value in state.items()})
        return prepared

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Predict the depth of an image with the head of its seed, and score it; writes the depth map."""
        image, depth = item.files
        truth = read_depth(depth, self.units_per_metre, self.invalid)
        predicted = self._predict(candidate, prepared, item.seed, image, (truth.shape[0], truth.shape[1]))
        scored = self._scored(truth)
        encoded = BytesIO()
        Image.fromarray((predicted * 1000).round().clip(0, 65535).astype(np.uint16)).save(encoded, "PNG")
        write_file(folder / DEPTH_FILE, encoded.getvalue())
        return Outcome(dict(score_depth(predicted, truth, scored, self.scaling)), (DEPTH_FILE,))

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Give the image as the candidate sees it."""
        return self._canvas(candidate, item.files[0], self._patch(candidate))[0]

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Image, truth and predictions on one scale of depth; below them what each is off by."""
        image, depth = item.files
        truth = read_depth(depth, self.units_per_metre, self.invalid)
        known = self._scored(truth)
        predicted = {name: read_depth(folders[name] / DEPTH_FILE, 1000.0, ()) for name in outcomes}
        if self.scaling == "median" and known.any():
            predicted = {name: p * (np.median(truth[known]) / np.median(p[known])) for name, p in predicted.items()}
        low, high = (
            (float(np.quantile(truth[known], q)) for q in (0.01, 0.99)) if known.any() else (0.0, self.max_depth)
        )
        photograph = read_bytes(image)[0].permute(1, 2, 0).numpy()
        depths = {"image": photograph, "ground truth": _paint(truth, known, low, high, "viridis")}
        depths |= {name: _paint(p, np.ones_like(known), low, high, "viridis") for name, p in predicted.items()}
        errors = {name: np.abs(p - truth) for name, p in predicted.items()}
        worst = max((float(np.quantile(e[known], 0.95)) for e in errors.values() if known.any()), default=1.0)
        off = {name: _paint(e, known, 0.0, worst, "magma") for name, e in errors.items()}
        return Sheet(
            ((f"depth, {low:.2g} to {high:.2g} m", depths), (f"error, 0 to {worst:.2g} m", off)),
        )

    @classmethod
    def example(cls, folder: Path) -> "Depth":
        """Six training and two test images of 64x64, darker where farther, and a short training of two seeds."""
        draws = np.random.default_rng(0)
        for split, number in (("train", 6), ("test", 2)):
            for kind in ("rgb", "depth"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
            for index in range(number):
                depth = np.linspace(1000, 3000, 64)[:, None].repeat(64, 1)
                for _ in range(2):
                    top, left = draws.integers(0, 40, 2)
                    depth[top : top + 24, left : left + 24] = draws.integers(800, 3500)
                noise = draws.normal(0, 6, (64, 64, 3))
                photograph = (250 - depth[..., None] / 16 + noise).clip(0, 255).astype(np.uint8)
                Image.fromarray(photograph).save(folder / split / "rgb" / f"{index:03d}.png")
                depth[:2] = 0
                Image.fromarray(depth.astype(np.uint16)).save(folder / split / "depth" / f"{index:03d}.png")
        return cls(
            folder,
            max_depth=4.0,
            num_bins=32,
            training=HeadTraining(steps=80, learning_rate=0.01, weight_decay=0.01, seeds=2),
        )

    @property
    def _layers(self) -> tuple[int, ...]:
        return self.layers or ((-1,) if self.head == "linear" else FOUR_BLOCKS)

    def _training_pairs(self) -> Sequence[DepthPair]:
        return spread_evenly(open_split(self.root, self.train), self.num_train)

    def _read(self, pair: DepthPair) -> Float[np.ndarray, "H W"]:
        return read_depth(pair.depth, self.units_per_metre, self.invalid)

    def _scored(self, truth: Float[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
        return scored_pixels(truth, self.min_depth, self.max_depth, eigen_crop=self.crop == "eigen")

    def _patch(self, candidate: Candidate) -> int:
        return find_patch(candidate, partial(self._maps, candidate))

    def _canvas(self, candidate: Candidate, image: Path, patch: int) -> tuple[UInt8[Tensor, "1 3 H W"], Placement]:
        return pad_to_patch(read_bytes(image, self.short_side), patch, candidate.normalization, self.padding)

    def _maps(self, candidate: Candidate, canvas: Tensor) -> tuple[Tensor, ...]:
        """Each block's map and after it, if wanted, its class token; registers are left out."""
        specs = [(layer, f"{layer}:prefix") if self.class_token else (layer,) for layer in self._layers]
        maps = candidate.maps_at(canvas, tuple(spec for block in specs for spec in block), norm=False)
        if not self.class_token:
            return maps
        return tuple(
            features
            for block, prefix in zip(maps[::2], maps[1::2], strict=True)
            for features in (block, prefix[:, : block.shape[1]])
        )

    def _make_head(self, channels: Sequence[int]) -> nn.Module:
        if self.head == "dpt":
            return DPT(channels, self.min_depth, self.class_token)
        return LinearBins(channels, self.num_bins, self.min_depth, self.max_depth)

    def _loss(self, output: Tensor, truth: Tensor, step: int) -> Tensor:
        value = silog_loss(output[:, 0], truth, with_variance=step >= min(NUM_MEAN_ONLY, self.training.steps // 10))
        if self.gradient_weight:
            value = value + self.gradient_weight * log_gradient_loss(output[:, 0], truth)
        return value

    def _predict(
        self, candidate: Candidate, prepared: Mapping[str, Tensor], seed: int, image: Path, size: tuple[int, int]
    ) -> Float[np.ndarray, "H W"]:
        """Depth in metres at a size; under output shifts the mean of the depths of shifted images, each moved back."""
        canvas, placement = self._canvas(candidate, image, int(prepared["patch"]))
        head, total = None, torch.zeros(())
        for dy, dx in candidate.output_shifts:
            maps = tuple(m.float() for m in self._maps(candidate, shift_pixels(canvas, (dy, dx))))
            if head is None:
                head = self._make_head([m.shape[1] for m in maps])
                prefix = f"{seed}."
                head.load_state_dict({k.removeprefix(prefix): v for k, v in prepared.items() if k.startswith(prefix)})
                head = head.to(candidate.device).eval()
            with torch.inference_mode():
                depth = head(*maps).clamp(self.min_depth, self.max_depth)
                if (dy, dx) != (0, 0):  # undone pixel by pixel: outputs lie on the canvas, features on its tokens
                    depth = Placement(placement.canvas).onto(depth, placement.canvas)
                    depth = shift_pixels(depth, (-dy, -dx))
                total = total + placement.onto(depth, size)[0, 0].cpu()
        return (total / len(candidate.output_shifts)).numpy()


def _paint(
    values: Float[np.ndarray, "H W"], shown: np.ndarray, low: float, high: float, colors: str
) -> UInt8[np.ndarray, "H W 3"]:
    """Values as colours from low to high; black where nothing is shown."""
    scaled = ((values - low) / max(high - low, 1e-6)).clip(0, 1)
    picture = matplotlib.colormaps[colors](scaled, bytes=True)[..., :3].copy()
    picture[~shown] = 0
    return picture
