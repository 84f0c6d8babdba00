"""Which model, which of its features, and how it is run: the options that all commands share.

Shape legend: none.

Each option is declared here and nowhere else; the command line derives from these classes (`--backbone.weights`,
`--features.layer`, `--execution.precision`), and so do the keys of a run's YAML.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from srt_distill.backbone.execution import AttentionKernel, Precision
from srt_distill.backbone.position import PositionEmbedding


@dataclass(frozen=True)
class BackboneOptions:
    """Which model.

    Args:
        name: A timm model name, `local-dir:<folder>`, `hf-hub:<repository>`, a folder that `export` wrote, or a run
            folder or .ckpt file of `fit` (its student).
        weights: Weights file for a timm model name: .safetensors, or .pth including DINO, DINOv2, MAE, DeiT releases.
        position_embedding: How position embeddings are resized: timm's way, or DINO's to reproduce its numbers.
        mean: Per channel of its images, of values in 0 to 1, in place of the model's own; one number is for all.
        std: Per channel, likewise.
    """

    name: str
    weights: str | None = None
    position_embedding: PositionEmbedding = "timm"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


@dataclass(frozen=True)
class FeatureOptions:
    """Which features of a model are judged.

    Args:
        layer: Block, 0-based, negative from the end, with an optional facet: `8:key` (or query, value).
        norm: Apply the model's final norm.
    """

    layer: int | str = -1
    norm: bool = True


@dataclass(frozen=True)
class KernelOptions:
    """What computes a model's blocks. The features stay the same up to rounding.

    Args:
        attention: Kernel that computes attention, of those that torch has for the device; `auto` leaves it to torch.
        compile: Compile the model's blocks: a minute more at the start, fewer seconds per image.
    """

    attention: AttentionKernel = "auto"
    compile: bool = False


@dataclass(frozen=True)
class ExecutionOptions(KernelOptions):
    """How a model is run.

    Args:
        device: `auto` (the accelerator at hand, or the CPU), `cpu`, `cuda`, and so on.
        precision: Format of the model's multiplications; features under `bfloat16` agree to about 1%.
    """

    device: str = "auto"
    precision: Precision = "float32"
