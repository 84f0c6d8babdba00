"""What can be told of a student without any label, on unlabeled images and videos.

Shape legend: B images, C channels, H W pixels, h w tokens, n = h·w, m margin in pixels, N tokens, T frames, K labels.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from srt_distill.data import DavisFrames, ImageFolder, ImageSource
from srt_distill.data.crops import HeldOutCrops
from srt_distill.ensemble import StochasticResonance
from srt_distill.images import upright_size
from srt_distill.tasks import Candidate
from srt_distill.tasks.davis import LabelPropagator
from srt_distill.tasks.davis.video_propagation import infer_patch
from srt_distill.tasks.davis.videos import find_frames, list_sequences, network_size, read_frame, resize_frame
from srt_distill.training.feature_metrics import FeatureSpread
from srt_distill.training.held_out_scores import FrozenTeacher, HeldOutScores
from srt_distill.training.settings import RelationOptions

RADIUS = 3  # of the SRT that students are measured against, whatever they learned from; nine of its 49 shifts
BATCH = 8  # images; also those that are clustered together, as in DSE's public code
SQUARE = 4  # side in tokens of the squares that are carried through a video and back
NUM_COLOURS = 8  # regions of alike colour and place that are carried beside them
LOCAL_CLUSTERS, GLOBAL_CLUSTERS = 3, 24  # of DSE's public code: of one image, of eight together
NUM_DIMENSION_DRAWS = 64

SIGNALS: dict[str, tuple[str, int]] = {
    "gap closed": ("share of the squared distance to SRT that is closed", 1),
    "relations closed": ("the same of relations between tokens, KL in label propagation's window", 1),
    "equivariance error": ("what moves when the image moves by less than a patch, over energy", -1),
    "effective rank": ("directions that tokens fill", 1),
    "variance kept": ("variance of tokens over the teacher's", 1),
    "variance like SRT's": ("minus |log| of the variance of tokens over SRT's", 1),
    "outlier norms": ("99th percentile of token norms before the final norm over their median", -1),
    "DSE separability": ("distance to the next cluster less the radius of the own one", 1),
    "DSE dimension": ("effective rank of one token per image", 1),
    "DSE": ("the two added, scaled to one spread over students", 1),
    "cycle, squares": ("mean IoU of a grid of squares carried through a video and back", 1),
    "cycle, colours": ("mean IoU of regions of alike colour carried through a video and back", 1),
    "mutual neighbours": ("tokens whose nearest neighbour in the next frame leads back to them", 1),
    "head agreement": ("overlap of the untouched head's probabilities with the teacher's", 1),
}
"""What each signal is, and the direction that was expected before any was measured: 1 where more is better."""


@dataclass(frozen=True)
class Unlabeled:
    """What signals are measured on, the same for all students.

    Attributes:
        images: (B, 3, H+2m, W+2m) bytes, m the radius.
        videos: One (T, 3, H, W) of bytes per video.
    """

    images: UInt8[Tensor, "B 3 H W"]
    videos: tuple[UInt8[Tensor, "T 3 H W"], ...]

    @property
    def crops(self) -> UInt8[Tensor, "B 3 H W"]:
        """The images without their margin."""
        return self.images[..., RADIUS:-RADIUS, RADIUS:-RADIUS]


def open_unlabeled(options: Mapping[str, Any], patch: int) -> Unlabeled:
    """Read images and videos, evenly spaced among those there are; masks are never read.

    Args:
        options: `davis`, `scenes` and `videos` (lists of the DAVIS folder), `photographs` (a folder or null),
            `num_frames`, `num_photographs`, `crop_size` and `scale` of images, `num_videos`, `frames_per_video` and
            `video_scale` (factor on 480 pixels).
        patch: Patch side in pixels.
    """
    root = Path(options["davis"])
    crops = [_crops(DavisFrames(root, options["scenes"]), options["num_frames"], options)]
    if options.get("photographs"):
        crops.append(_crops(ImageFolder(options["photographs"]), options["num_photographs"], options))
    names = list_sequences(root, options["videos"])
    videos = []
    for index in _spread(len(names), options["num_videos"]):
        paths = find_frames(root, names[index])[: options["frames_per_video"]]
        size = network_size(upright_size(paths[0], str(paths[0])), patch, options["video_scale"], patch)
        videos.append(torch.stack([resize_frame(read_frame(path), size) for path in paths]))
    return Unlabeled(torch.cat(crops), tuple(videos))


def _crops(source: ImageSource, count: int, options: Mapping[str, Any]) -> UInt8[Tensor, "B 3 H W"]:
    height, width = (side + 2 * RADIUS for side in options["crop_size"])
    crops = HeldOutCrops(source, _spread(len(source), count), height, width, options["scale"])
    return torch.stack([torch.as_tensor(crops[index].pixels) for index in range(len(crops))])


def _spread(total: int, count: int) -> Int64[np.ndarray, " count"]:
    """Choose so many indices, evenly spaced; all where there are not so many."""
    return np.unique((np.arange(min(count, total)) + 0.5) * total / min(count, total)).astype(np.int64)


class Signals:
    """Measures students of one teacher.

    Args:
        teacher: In one pass.
        unlabeled: What is looked at.
    """

    def __init__(self, teacher: Candidate, unlabeled: Unlabeled) -> None:
        self.teacher, self.unlabeled = teacher, unlabeled
        srt = StochasticResonance(teacher.extract, RADIUS, views_per_batch=1, margin=RADIUS, subset="grid9")
        self.frozen = FrozenTeacher(teacher.extract, srt)
        self.scores = HeldOutScores((-1,), RelationOptions(weight=1.0)).to(teacher.device)
        self.patch = infer_patch(teacher)

    @torch.inference_mode()
    def measure(self, student: Candidate) -> dict[str, float]:
        """Measure every signal but DSE, which is scaled over students later.

        Raises:
            FloatingPointError: If the student's features are no longer finite.
        """
        batches = self.unlabeled.images.split(BATCH)
        maps, spread = [], FeatureSpread().to(student.device)
        for index, images in enumerate(batches):
            normalised = self.teacher.normalization(images.to(student.device))
            seen = self.scores.update(normalised, index, student.extract, self.frozen)
            assert seen is not None
            maps.append(seen["student"][0])
            spread.update(seen["srt"][0])
        scores = {name: float(value) for name, value in self.scores.compute().items()}
        variance, like = scores["feature_variance_student"], float(spread.compute()[1])
        signals = {
            "gap closed": scores["gap_closed"],
            "relations closed": scores["relations_closed"],
            "equivariance error": scores["equivariance_error_student"],
            "effective rank": scores["effective_rank_student"],
            "variance kept": variance / scores["feature_variance_teacher"],
            "variance like SRT's": -abs(float(np.log(variance / like))),
            "outlier norms": self._outlier_norms(student),
        }
        tokens = torch.cat([batch.flatten(2).transpose(1, 2) for batch in maps]).float()
        signals["DSE separability"], signals["DSE dimension"] = structure(tokens)
        signals |= self._on_videos(student)
        if student.classify is not None and self.teacher.classify is not None:
            signals["head agreement"] = self._head_agreement(student)
        return signals

    def _outlier_norms(self, student: Candidate) -> float:
        """Compare large norms with the usual one, image by image."""
        ratios = []
        for crops in self.unlabeled.crops.split(BATCH):
            (maps,) = student.maps_at(crops, (-1,), norm=False)
            norms = maps.float().norm(dim=1).flatten(1)
            ratios.append(norms.quantile(0.99, dim=1) / norms.median(dim=1).values)
        return float(torch.cat(ratios).mean())

    def _on_videos(self, student: Candidate) -> dict[str, float]:
        squares, colours, neighbours = [], [], []
        for video in self.unlabeled.videos:
            features = torch.cat([student.maps(frame[None])[-1] for frame in video])
            size = (features.shape[2], features.shape[3])
            labels = [grid_of_squares(*size), regions_of_colour(video[0], size)]
            one_hot = [F.one_hot(ids, int(ids.max()) + 1).permute(2, 0, 1).float().to(features) for ids in labels]
            for results, share in zip((squares, colours), cycle_consistency(features, *one_hot), strict=True):
                results.append(share)
            neighbours.append(mutual_neighbours(features))
        values = {"cycle, squares": squares, "cycle, colours": colours, "mutual neighbours": neighbours}
        return {name: float(np.mean(results)) for name, results in values.items()}

    def _head_agreement(self, student: Candidate) -> float:
        shared = []
        for crops in self.unlabeled.crops.split(BATCH):
            ours, theirs = (_probabilities(candidate, crops) for candidate in (student, self.teacher))
            shared.append(torch.minimum(ours, theirs).sum(1))
        return float(torch.cat(shared).mean())


def _probabilities(candidate: Candidate, images: Tensor) -> Float[Tensor, "B classes"]:
    assert candidate.classify is not None
    (prefix,) = candidate.maps_at(images, ("-1:prefix",))
    return candidate.classify(prefix.flatten(1)).float().softmax(1)


def grid_of_squares(height: int, width: int, side: int = SQUARE) -> Int64[Tensor, "h w"]:
    """Label the tokens of a frame by the square of a regular grid that they lie in."""
    rows, columns = torch.arange(height) // side, torch.arange(width) // side
    return rows[:, None] * (int(columns.max()) + 1) + columns


def regions_of_colour(frame: UInt8[Tensor, "3 H W"], size: tuple[int, int]) -> Int64[Tensor, "h w"]:
    """Label the tokens of a frame by k-means of their mean colour and their place, which weighs half as much."""
    height, width = size
    colour = F.adaptive_avg_pool2d(frame[None].float().cpu() / 255, size)[0]
    rows = torch.linspace(0, 0.5, height)[None, :, None].expand(1, height, width)
    columns = torch.linspace(0, 0.5, width)[None, None].expand(1, height, width)
    _, ids = cluster(torch.cat([colour, rows, columns]).flatten(1).T.contiguous(), NUM_COLOURS)
    return ids.unique(return_inverse=True)[1].view(height, width)  # an empty cluster must not be a label


def cycle_consistency(features: Float[Tensor, "T C h w"], *labels: Float[Tensor, "_ h w"]) -> list[float]:
    """Carry labels from the first frame to the last and, from there alone, back, as DAVIS's masks are carried.

    Labels are made hard in the last frame, where the second journey starts: it sees nothing of the first one.

    Args:
        features: Of the frames in order.
        labels: One-hot, of the first frame; any number of ways to label it, each (K, h, w).

    Returns:
        For each way the mean IoU, over labels, of what came back with what set out; 1 where each token finds its way.
    """
    sizes, arrived = [len(way) for way in labels], torch.cat(labels)
    for journey in (features, features.flip(0)):
        propagator = LabelPropagator(journey[0], arrived)
        for frame in journey[1:]:
            arrived = propagator.step(frame)
        ids = [way.argmax(0) for way in arrived.split(sizes)]
        hard = [F.one_hot(way, size).permute(2, 0, 1) for way, size in zip(ids, sizes, strict=True)]
        arrived = torch.cat(hard).to(features)
    shares = []
    for back, start in zip(arrived.split(sizes), labels, strict=True):
        shared, either = torch.minimum(back, start).sum((1, 2)), torch.maximum(back, start).sum((1, 2))
        shares.append(float((shared / either).mean()))
    return shares


def mutual_neighbours(features: Float[Tensor, "T C h w"]) -> float:
    """Count tokens whose nearest neighbour in the next frame has them, or a token beside them, as its own nearest."""
    width = features.shape[3]
    unit = F.normalize(features.float().flatten(2), dim=1)
    start = torch.arange(unit.shape[2], device=unit.device)
    shares = []
    for here, there in pairwise(unit):
        similarity = here.T @ there
        back = similarity.argmax(0)[similarity.argmax(1)]
        apart = torch.maximum((back // width - start // width).abs(), (back % width - start % width).abs())
        shares.append((apart <= 1).float().mean())
    return float(torch.stack(shares).mean())


def structure(tokens: Float[Tensor, "B n C"]) -> tuple[float, float]:
    """Measure class separability and effective dimension of dense features, the two parts of DSE.

    Separability is inter less intra. Inter: mean distance of tokens to the nearest centroid but their own, 24 clusters
    of eight images; intra: mean over clusters of the sum of singular values of their centred tokens, over
    sqrt(max(N - 1, C)), the mean of 24 clusters of eight images and of 3 clusters of each image. Both over the mean
    distance of tokens from their mean. Dimension: effective rank of one token of each image, over the most it could be,
    mean over draws. Tokens have length 1.

    Returns:
        Separability and dimension. Source: Dai et al., NeurIPS 2025 (arXiv 2510.17299) and its public code.
    """
    unit = F.normalize(tokens, dim=-1)
    scale = (unit - unit.mean((0, 1))).norm(dim=-1).mean()
    inter, intra = [], [_radius(image, cluster(image, LOCAL_CLUSTERS)[1]) for image in unit]
    local = torch.stack(intra).mean()
    together = []
    for images in unit.split(BATCH):
        rows = images.flatten(0, 1)
        centroids, ids = cluster(rows, GLOBAL_CLUSTERS)
        distances = torch.cdist(rows, centroids).scatter_(1, ids[:, None], torch.inf)
        inter.append(distances.amin(1).mean())
        together.append(_radius(rows, ids))
    separability = torch.stack(inter).mean() - (torch.stack(together).mean() + local) / 2
    generator = torch.Generator().manual_seed(0)
    num_images, num_tokens, num_channels = unit.shape
    chosen = torch.randint(num_tokens, (NUM_DIMENSION_DRAWS, num_images), generator=generator).to(unit.device)
    values = torch.linalg.svdvals(unit[torch.arange(num_images, device=unit.device), chosen].cpu())
    shares = values / values.sum(1, keepdim=True)
    dimension = torch.special.entr(shares).sum(1).exp().mean() / min(num_images, num_channels)
    return float(separability / scale), float(dimension)


def _radius(rows: Float[Tensor, "N C"], ids: Int64[Tensor, " N"]) -> Float[Tensor, ""]:
    """Average over clusters the sum of singular values of their centred tokens, over sqrt(max(N - 1, C))."""
    centred = [rows[ids == label] - rows[ids == label].mean(0) for label in ids.unique()]
    centred = [members.double() for members in centred if len(members) > 1]
    if not centred:
        return rows.new_ones(())
    products = torch.stack([members.T @ members for members in centred]).cpu()  # small: no matter for an accelerator
    sums = torch.linalg.eigvalsh(products).clamp(min=0).sqrt().sum(1)
    least = torch.tensor([max(len(members) - 1, rows.shape[1]) for members in centred])
    return (sums / least.sqrt()).mean().to(rows)


def cluster(rows: Float[Tensor, "N C"], count: int) -> tuple[Float[Tensor, "K C"], Int64[Tensor, " N"]]:
    """Find k-means clusters from a seeded start; the same for the same rows.

    Returns:
        Centroids, and of each row the number of its nearest.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: some stay empty
        found = KMeans(count, max_iter=20, random_state=0).fit(rows.float().cpu().numpy())
    return torch.from_numpy(found.cluster_centers_).to(rows), torch.from_numpy(found.labels_).to(rows.device).long()
