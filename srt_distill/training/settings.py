"""Options that only training has: the target, relations, what moves and what holds it back, how a student is read.

Shape legend: none.

What training shares with the other commands is declared where it is used: `srt_distill.backbone.options` and
`srt_distill.ensemble.options`.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from srt_distill.backbone import TrainablePart
from srt_distill.ensemble.baselines import Interpolation
from srt_distill.ensemble.options import ViewOptions
from srt_distill.training.losses import Penalty


@dataclass(frozen=True)
class TargetSRTOptions(ViewOptions):
    """SRT over the frozen teacher: what the student learns.

    Args:
        interpolation: How a teacher's token fills its pixels before views are moved back and averaged: `nearest` is
            SRT; `bilinear` and `bicubic` (paper, Table 8) make a smoother target of it.
        whole_patches: Average every pass with those of views shifted by a whole patch each way, at nine times the
            passes; with `flip` and radius 0 it is PH-Reg's target (Chen et al., NeurIPS 2025).
    """

    interpolation: Literal["nearest"] | Interpolation = "nearest"
    whole_patches: bool = False

    @property
    def margin(self) -> int:
        """Real pixels round each crop, as many as the radius, so that no shift sees padding.

        None for the border `reference`: the authors' padding is part of what it reproduces.
        """
        return 0 if self.border == "reference" else self.radius

    @property
    def made_of(self) -> dict[str, Any]:
        """All that the target depends on: not how many views go through the teacher together."""
        return {name: value for name, value in asdict(self).items() if name != "views_per_batch"}


@dataclass(frozen=True)
class RelationOptions:
    """How much it counts that tokens stand to one another as the target's do, beside their values.

    Args:
        weight: Of `srt_distill.training.losses.relation_distance`, next to 1 for the distance of values; 0 for none.
        temperature: Of the softmax over similarities; label propagation's is 0.1.
        window_radius: Tokens of one image are related inside a square window of this radius; null for the whole image.
    """

    weight: float = 0.0
    temperature: float = 0.1
    window_radius: int | None = 12


@dataclass(frozen=True)
class TrainableOptions:
    """Which weights move.

    Args:
        part: `all`; those of the last blocks (`last_n`); of every `norm`; every `bias`; or low-rank adapters on all
            linear layers (`lora`, through peft), which are merged when a run is loaded or exported.
        last_n: Number of last blocks under `last_n`.
        lora_rank: Rank of the adapters under `lora`.
        lora_alpha: Their scale: alpha / rank times the product of the two matrices is added to a weight.
    """

    part: TrainablePart = "all"
    last_n: int = 1
    lora_rank: int = 8
    lora_alpha: int = 16


@dataclass(frozen=True)
class PenaltyOptions:
    """What holds weights back.

    Args:
        kind: Pull towards w0, in later rounds the first one's (`l2_sp`), or the authors' norm (`weight_norm`).
        weight: Factor of the penalty; 0 for none.
    """

    kind: Penalty = "l2_sp"
    weight: float = 0.0


def plain(options: Any) -> Any:
    """Turn options into data for YAML and checkpoints: a dataclass becomes a dictionary, a sequence a list.

    What describes itself, as a target does, is that description.
    """
    if hasattr(options, "describe"):
        return options.describe()
    if hasattr(options, "__dataclass_fields__"):
        return {name: plain(value) for name, value in asdict(options).items()}
    return list(options) if isinstance(options, tuple | list) else options
