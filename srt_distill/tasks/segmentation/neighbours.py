"""Segmentation by nearest neighbours: a memory of labelled tokens, and nothing that is trained.

Shape legend: C channels, K classes, M tokens in memory, h w tokens, H W pixels.

Source: Hummingbird (Balažević et al., 2023): each token of a test image takes the labels of the most similar tokens of
the training images, weighted by a softmax over cosine similarities. A token's label is the share of each class among
its pixels. The one random thing is which tokens the memory keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.segmentation.base import SCORES, SegmentationTask
from srt_distill.tasks.segmentation.example import draw_rectangles
from srt_distill.tasks.segmentation.labels import token_labels
from srt_distill.tasks.task import TaskInfo

_QUERIES = 1024  # tokens compared with the memory at a time


def look_up(
    queries: Float[Tensor, "N C"],
    memory: Float[Tensor, "M C"],
    labels: Float[Tensor, "M K"],
    num_neighbours: int,
    temperature: float,
) -> Float[Tensor, "N K"]:
    """Give every query the labels of its most similar tokens in memory, by softmax(cosine similarity / temperature).

    Args:
        queries: Tokens of any length.
        memory: Tokens of length 1.
        labels: Shares of the classes.
        num_neighbours: Tokens that are looked at; all, if the memory has fewer.
        temperature: Of the softmax.
    """
    found = []
    for part in F.normalize(queries, dim=1).split(_QUERIES):
        similarity, index = (part @ memory.T).topk(min(num_neighbours, len(memory)), dim=1)
        found.append(torch.einsum("nm,nmk->nk", (similarity / temperature).softmax(1), labels[index]))
    return torch.cat(found)


@dataclass(frozen=True)
class SegmentationNeighbours(SegmentationTask):
    """Segmentation by a memory of labelled tokens, without training.

    Args:
        root: Folder with the data.
        layout: How they lie in it: lists (CamVid), folders, ade20k, or instances (nuclei).
        short_side: Pixels that an image's short side is brought to; none leaves images as they are.
        window: Side of the windows that an image is cut into, in pixels; none looks at whole images.
        stride: From window to window, in pixels.
        padding: What becomes of outputs where images were padded to whole patches.
        num_train: Training images, evenly spread over the split; none for all.
        memory_tokens: Labelled tokens that the memory keeps, drawn at random.
        num_neighbours: Of them that a token takes its label from.
        temperature: Of the softmax over similarities.
        seeds: Memories that are drawn, with seeds 0, 1, …; each judges every image.
    """

    memory_tokens: int = 10_000
    num_neighbours: int = 30
    temperature: float = 0.02
    seeds: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("memory_tokens", "num_neighbours", "temperature", "seeds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} is not above 0")

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        return TaskInfo(
            name=f"segmentation-knn-{self.root.name.lower()}",
            version="1",
            title=f"Segmentation by nearest neighbours, {self.root.name}",
            item="image",
            scores=SCORES,
            source="Hummingbird (Balažević et al., 2023)",
        )

    @property
    def num_seeds(self) -> int:
        """Memories that are drawn."""
        return self.seeds

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Draw a memory per seed from the labelled tokens of the training split."""
        patch, num_classes = self.patch(candidate), len(self.open().rule.classes)
        tokens, labels = [], []
        for features, of_pixels, placement in self.samples(candidate, patch):
            grid = features.shape[-2], features.shape[-1]
            shares = token_labels(of_pixels, placement, grid, num_classes).flatten(1).T
            labelled = shares.sum(1) > 0
            tokens.append(F.normalize(features[0].float().cpu().flatten(1).T[labelled], dim=1))
            labels.append(shares[labelled])
        memory, of_memory = torch.cat(tokens), torch.cat(labels)
        prepared = {"patch": torch.tensor(patch)}
        for seed in range(self.seeds):
            draws = torch.Generator().manual_seed(seed)
            kept = torch.randperm(len(memory), generator=draws)[: self.memory_tokens].sort().values
            prepared[f"{seed}.tokens"], prepared[f"{seed}.labels"] = memory[kept], of_memory[kept]
        return prepared

    def classify(self, prepared: Mapping[str, Tensor], seed: int, features: Float[Tensor, "1 C h w"]) -> Tensor:
        """Give shares (1, K, h, w) of the classes from the memory of a seed."""
        memory, labels = (prepared[f"{seed}.{name}"].to(features.device) for name in ("tokens", "labels"))
        found = look_up(features[0].flatten(1).T, memory, labels, self.num_neighbours, self.temperature)
        return found.T.unflatten(1, tuple(features.shape[-2:]))[None]

    @classmethod
    def example(cls, folder: Path) -> "SegmentationNeighbours":
        """Six training and two test images of 64x64 with three colours, and a memory of 100 tokens under two seeds."""
        draw_rectangles(folder)
        return cls(folder, memory_tokens=100, seeds=2)
