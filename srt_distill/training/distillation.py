"""Self-distillation of SRT features into the weights that produced them (paper, Eq. 6).

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, m margin in pixels.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jaxtyping import Real
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from srt_distill.backbone import (
    backbone_config,
    backbone_normalization,
    blank_image,
    choose_trained,
    describe_backbone,
    group_by_rate,
    hash_weights,
    measure_weights,
    paired_weights,
    require_same_weights,
)
from srt_distill.backbone.execution import compile_blocks
from srt_distill.backbone.options import BackboneOptions, KernelOptions
from srt_distill.ensemble.shifts import check_radius
from srt_distill.extractor import Extractor, strides
from srt_distill.images import Normalization
from srt_distill.runs import Readout, is_score, open_backbone
from srt_distill.training import checkpoint_contents as contents
from srt_distill.training.feature_metrics import weight_drift
from srt_distill.training.held_out_scores import FrozenTeacher, HeldOutScores, crop_margin
from srt_distill.training.losses import Loss, weigh_layers, weight_penalty
from srt_distill.training.objective import Objective
from srt_distill.training.optimization import (
    OptimizerFactory,
    SchedulerFactory,
    default_optimizer,
    scale_rates,
    schedule_one_cycle,
)
from srt_distill.training.reading import FeatureReading
from srt_distill.training.settings import PenaltyOptions, RelationOptions, TargetSRTOptions, TrainableOptions, plain
from srt_distill.training.target_cache import TargetSettings, describe_settings
from srt_distill.training.targets import AllShifts, Target
from srt_distill.training.trainer_facts import draw_number, drop_repeats, share_of_time

UNSAVED = ("self", "__class__", "optimizer", "lr_scheduler")
"""What is no setting: the last two are functions, and described by what they make."""


class SRTDistillation(pl.LightningModule):
    """Trains a copy of a pre-trained backbone to give in one pass what its frozen original gives under SRT.

    Batches are images (B, K, H+2m, W+2m) of values 0 to 255, as `srt_distill.data.UnlabeledImages` makes them; m is
    `srt.margin`, K what the backbone takes.
    Logged: the training loss, in all and per layer; on held-out images `val/gap_closed` (0 untouched, 1 SRT in one
    pass), `val/relations_closed` where relations are taught, and what else
    `srt_distill.training.held_out_scores.HeldOutScores` tells.

    Args:
        backbone: What is adapted.
        origin: In a later round, the backbone that the first one started from (`fit --rounds` sets it). From it are
            measured `val/gap_closed_origin` and `val/weight_drift`; `val/gap_closed` from this run's own teacher.
        layers: Features that are distilled: 0-based blocks, negative from the end, with an optional facet: `8:key`, or
            `-1:prefix` for class and register tokens; see `srt_distill.backbone.layers`.
        layer_weights: Weight of each layer's loss; null for 1 each.
        norm: Apply the final norm to the features of every layer.
        unit_tokens: Bring every token to length 1 before averaging and comparing, as label propagation does.
        srt: What the frozen teacher averages.
        target: Where its average comes from: AllShifts, SampledShifts or CachedShifts.
        readout: How the student's maps are read where they are judged; through any but `none` the loss sees them
            smoothed bilinearly. See `srt_distill.runs.Readout`.
        readout_strength: How much of that smoothing the loss sees, 0 to 1. Half of it is SRT's own at radius 3
            and patch 16: a student that is seen through it need not learn to smooth.
        loss: Distance to the target; see `srt_distill.training.losses.Loss`.
        relations: How much it counts beside it that tokens stand to one another as the target's do.
        trainable: Which weights move.
        penalty: What holds them back.
        execution: What computes the blocks of teacher and student.
        optimizer: Optimizer class with its arguments; trains the chosen weights only.
        relative_rates: Whether weights that are smaller than DeiT-Tiny's, for which rates were chosen, move slower in
            proportion, each matrix by its own size; see `srt_distill.backbone.group_by_rate`.
        layer_decay: Factor on the learning rate from each layer to the one before it; null for one rate.
        lr_scheduler: Scheduler class with its arguments; by default one cycle over the run, up to the optimizer's rate.
        lr_interval: Whether the scheduler steps every `step` or every `epoch`.
        seed: Of the drawn shifts and of adapters.

    Raises:
        ValueError: If there is not one weight per layer, or the target would bias the loss.
    """

    student: nn.Module
    teacher: nn.Module
    student_features: Extractor
    start: tuple[nn.Module]  # w0; in a tuple it is no part of the module, so that checkpoints are without it
    frozen: FrozenTeacher
    normalization: Normalization
    loss: Loss

    def __init__(
        self,
        backbone: BackboneOptions,
        origin: BackboneOptions | None = None,
        layers: Sequence[int | str] = (-1,),
        layer_weights: Sequence[float] | None = None,
        norm: bool = True,
        unit_tokens: bool = False,
        srt: TargetSRTOptions = TargetSRTOptions(),
        target: Target = AllShifts(),
        readout: Readout = "none",
        readout_strength: float = 1.0,
        loss: Loss = "mse",
        relations: RelationOptions = RelationOptions(),
        trainable: TrainableOptions = TrainableOptions(),
        penalty: PenaltyOptions = PenaltyOptions(),
        execution: KernelOptions = KernelOptions(),
        optimizer: OptimizerFactory = default_optimizer,
        relative_rates: bool = False,
        layer_decay: float | None = None,
        lr_scheduler: SchedulerFactory | None = None,
        lr_interval: Literal["step", "epoch"] = "step",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters({name: plain(value) for name, value in locals().items() if name not in UNSAVED})
        target.check(loss, relations=relations.weight != 0)
        self.backbone, self.origin, self.target = backbone, origin, target
        through = readout, readout_strength
        self.reading = FeatureReading(tuple(layers), norm, unit_tokens, *through, srt, execution.attention)
        weights = weigh_layers(layers, layer_weights)
        self.objective = Objective(tuple(layers), weights, loss, relations)
        self.trainable, self.penalty, self.execution, self.seed = trainable, penalty, execution, seed
        self._make_optimizer, self.relative_rates, self.layer_decay = optimizer, relative_rates, layer_decay
        self._make_scheduler, self.lr_interval = lr_scheduler, lr_interval
        self.held_out = HeldOutScores(layers, relations if relations.weight else None)
        self.frozen_origin: FrozenTeacher | None = None
        self._loaded: tuple[nn.Module, ...] = ()
        self._stored: dict[str, Any] | None = None  # what the checkpoint that is resumed says of its run
        self._scores: dict[str, float] = {}

    @property
    def num_channels(self) -> int:
        """Channels of the images that the backbone takes; loads it to know."""
        return describe_backbone(self._load()).num_channels

    @property
    def patch_size(self) -> int:
        """Crop sides must be multiples of this many pixels; loads the backbone to know."""
        return describe_backbone(self._load()).patch_size

    def _load(self) -> nn.Module:
        self._loaded = self._loaded or (open_backbone(self.backbone),)
        return self._loaded[0]

    def configure_model(self) -> None:
        """Make the student, and the frozen teacher it starts from; w0 if that is another."""
        if hasattr(self, "student"):
            return
        student, self._loaded = self._load().eval(), ()
        self.student, self.teacher = student, copy.deepcopy(student).requires_grad_(False)
        self.start = (self.teacher if self.origin is None else open_backbone(self.origin),)
        self._weight_sizes = measure_weights(self.teacher)
        info, extract, blank = describe_backbone(student), self.reading.plain(student), blank_image(student)
        check_radius(self.reading.srt.radius, min(strides(blank, extract(blank))), info.name)
        self.normalization = backbone_normalization(student)
        self.student_features, self.frozen = self.reading.student(student), self.reading.teacher(self.teacher)
        self.frozen_origin = None if self.origin is None else self.reading.teacher(self.start[0])
        choose_trained(extract, **asdict(self.trainable), seed=self.seed)
        for model in (self.student, self.teacher) if self.execution.compile else ():
            compile_blocks(model)

    def train(self, mode: bool = True) -> "SRTDistillation":
        """Set the mode of everything but the backbones: both stay in eval mode, whose features are distilled."""
        super().train(mode)
        for model in (self.student, self.teacher) if hasattr(self, "student") else ():
            model.eval()
        return self

    def training_step(self, batch: Real[Tensor, "B K H W"], batch_idx: int) -> Tensor:
        """One step of Eq. 6, ‖φ_w(x) − SRT(x, w0)‖: the student's single pass against SRT over the frozen teacher."""
        images = self.normalization(batch)
        with torch.no_grad():
            targets = self.target(batch, images, self.frozen.srt, (self.seed, draw_number(self.trainer, batch_idx)))
        maps = self.student_features(crop_margin(images, self.reading.srt.margin))
        loss, parts = self.objective(maps, targets)
        self.log_dict({f"train/{name}": part for name, part in parts.items()})
        if self.penalty.weight:
            loss = loss + self.penalty.weight * self._penalise()
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the learning rate: the highest, where weights have several."""
        self.log("train/learning_rate", max(group["lr"] for group in optimizer.param_groups))

    def _penalise(self) -> Tensor:
        penalty = weight_penalty(self._paired_weights(), self.penalty.kind)
        self.log("train/penalty", penalty.detach())
        return penalty

    def _paired_weights(self) -> list[tuple[Tensor, Tensor]]:
        return paired_weights(self.student, self.start[0].to(self.device))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Make the optimiser over the trainable weights, with its schedule."""
        sizes = self._weight_sizes if self.relative_rates else None
        optimizer = scale_rates(self._make_optimizer(group_by_rate(self.student, self.layer_decay, sizes)))
        if self._make_scheduler is not None:
            scheduler, interval = self._make_scheduler(optimizer), self.lr_interval
        else:
            num_steps, time_passed = float(self.trainer.estimated_stepping_batches), share_of_time(self.trainer)
            scheduler, interval = schedule_one_cycle(optimizer, num_steps, time_passed), "step"
        self._made_of = contents.describe_optimizer(optimizer, scheduler)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def on_fit_start(self) -> None:
        """Prove that a resumed run has its optimiser, and open the target."""
        contents.require_same_run(self._stored or {}, self._made_of)
        self.held_out.reset()  # what `trainer.validate` leaves are inference tensors, which training may not change
        crops = getattr(getattr(self.trainer, "datamodule", None), "crop_settings", None)
        self.target.open(lambda: describe_settings(self.target_settings, crops))

    @property
    def target_settings(self) -> TargetSettings:
        """What turns a crop into its target; known after `configure_model`."""
        read, srt, numbers = self.reading, self.reading.srt, self.normalization
        known = hash_weights(self.teacher), self.backbone.position_embedding, numbers.mean, numbers.std
        given = read.layers, read.norm, read.unit_tokens, str(self.trainer.precision)
        return TargetSettings(*known, *given, **srt.made_of)

    def validation_step(self, batch: Real[Tensor, "B K H W"], batch_idx: int) -> dict[str, tuple[Tensor, ...]] | None:
        """Compare student, teacher and the teacher's SRT on held-out images; see `HeldOutScores.update`."""
        images = self.normalization(drop_repeats(batch, batch_idx, self.trainer))
        return self.held_out.update(images, batch_idx, self.student_features, self.frozen, self.frozen_origin)

    def on_validation_epoch_start(self) -> None:
        """Measure how far the weights have come from w0; here, where averaged weights, if any, are in place."""
        self._drift = weight_drift(self._paired_weights())

    def on_validation_epoch_end(self) -> None:
        """Log the held-out scores."""
        for name, value in {**self.held_out.compute(), "weight_drift": self._drift}.items():
            self.log(f"val/{name}", value, prog_bar=f"val/{name}" == self.held_out.headline, sync_dist=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the student without hub or weights file, and what tells its run from others."""
        checkpoint["backbone"], checkpoint["teacher_hash"] = backbone_config(self.student), hash_weights(self.teacher)
        scores = {name: value.item() for name, value in self.trainer.callback_metrics.items() if is_score(name)}
        checkpoint["scores"] = self._scores = {**self._scores, **scores}
        checkpoint["run"] = {**contents.describe_run(self.hparams, self.trainer), **self._made_of}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Prove that a resumed run has the teacher and the settings it started with.

        Raises:
            ValueError: If it has not.
        """
        self._scores, self._stored = dict(checkpoint["scores"]), dict(checkpoint["run"])
        require_same_weights(self.teacher, checkpoint["teacher_hash"], self.backbone.name)
        contents.require_same_run(self._stored, contents.describe_run(self.hparams, self.trainer))
