"""Self-distillation of SRT features into the weights that produced them (paper, Eq. 6).

Shape legend: B images, C channels, H W pixels, h w tokens, m margin and d shift radius in pixels.
"""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from jaxtyping import Float, UInt8
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from srt_distill.backbone import (
    FeatureExtractor,
    PositionEmbedding,
    TrainablePart,
    backbone_config,
    blank_image,
    build_backbone,
    choose_trained,
    describe_backbone,
    group_by_depth,
    hash_weights,
    load_backbone,
    paired_weights,
    require_same_weights,
)
from srt_distill.backbone.execution import AttentionKernel, compile_blocks, run_with
from srt_distill.data import UnlabeledImages
from srt_distill.ensemble import StochasticResonance, ViewsPerBatch
from srt_distill.ensemble.baselines import InterpolatedFeatures, Interpolation
from srt_distill.ensemble.shifts import Border, Subset, check_radius
from srt_distill.extractor import Extractor, UnitTokens, strides
from srt_distill.training.feature_metrics import weight_drift
from srt_distill.training.held_out_scores import FrozenTeacher, HeldOutScores, crop_margin
from srt_distill.training.losses import Loss, Penalty, feature_distance, weight_penalty
from srt_distill.training.optimization import (
    OptimizerFactory,
    SchedulerFactory,
    default_optimizer,
    scale_rates,
    schedule_one_cycle,
)
from srt_distill.training.target_cache import TargetCache, TargetSettings, describe_settings
from srt_distill.training.targets import OnlineTarget, check_target


class SRTDistillation(pl.LightningModule):
    """Trains a copy of a pre-trained backbone to give in one pass what its frozen original gives under SRT.

    Batches are uint8 images (B, 3, H+2m, W+2m), as `srt_distill.data.UnlabeledImages` makes them. Logged: the training
    loss, in all and per layer; on held-out images `val/gap_closed` (0 untouched, 1 SRT in one pass) and what else
    `srt_distill.training.held_out_scores.HeldOutScores` tells.

    Args:
        backbone: timm model name, `local-dir:<folder>` or `hf-hub:<repository>`.
        weights: Weights file for a timm name: `.safetensors`, or `.pth` incl. DINO, DINOv2, MAE and DeiT releases.
        origin: In a later round, the backbone that the first one started from (`fit --rounds` sets it). From it are
            measured `val/gap_closed_origin` and `val/weight_drift`; `val/gap_closed` from this run's own teacher.
        origin_weights: Weights file of `origin`.
        position_embedding: How position embeddings are resized: timm's way, or DINO's to reproduce its numbers.
        layers: Features that are distilled: 0-based blocks, negative from the end, with an optional facet: `8:key`, or
            `-1:prefix` for class and register tokens; see `srt_distill.backbone.layers`.
        layer_weights: Weight of each layer's loss; all 1 by default.
        norm: Apply the final norm to the features of every layer.
        unit_tokens: Bring every token to length 1 before averaging and comparing, as label propagation does.
        loss: Distance to the target; see `srt_distill.training.losses.Loss`.
        trainable: Which weights move: all, those of the last blocks, of norms only, biases only, or low-rank adapters
            on all linear layers (`lora`, through peft), which are merged when a run is loaded or exported.
        last_n: Number of last blocks under `trainable: last_n`.
        lora_rank: Rank of the adapters under `trainable: lora`.
        lora_alpha: Their scale: alpha / rank times the product of the two matrices is added to a weight.
        penalty: Pull towards w0, in later rounds the first one's (`l2_sp`), or the authors' norm (`weight_norm`).
        penalty_weight: Weight of the penalty; 0 for none.
        shift_radius: d, in pixels.
        border: What lies beyond the frame; see `srt_distill.ensemble.shifts.Border`.
        margin: m, real pixels round each training crop; must equal the data's.
        shifts_per_step: Shifts drawn at each step, or null for all (2d+1)². Only for `mse` does a draw give the full
            grid's gradient in expectation.
        shift_subset: Part of the grid whose mean is the target where no shifts are drawn: fewer passes, another target.
        interpolation: How a teacher's token fills its pixels before views are moved back and averaged: `nearest` is
            SRT; `bilinear` and `bicubic` (paper, Table 8) make a smoother target of it.
        views_per_batch: Shifted views that go through the teacher together; `auto` finds what fits into memory.
        attention: Kernel that computes attention, of those that torch has for the device.
        compile: Compile the blocks of teacher and student: a minute or two more at the start, shorter steps.
        target_cache: Folder of full-grid targets that `srt-distill cache` filled; the data's `views` must be fixed.
        optimizer: Optimizer class with its arguments; trains the chosen weights only.
        layer_decay: Factor on the learning rate from each layer to the one before it; null for one rate.
        lr_scheduler: Scheduler class with its arguments; by default one cycle over the run, up to the optimizer's rate.
        lr_interval: Whether the scheduler steps every `step` or every `epoch`.
        seed: Seed of the drawn shifts.

    Raises:
        ValueError: If the settings contradict each other.
    """

    student: nn.Module
    teacher: nn.Module
    student_features: Extractor
    teacher_features: Extractor
    start: tuple[nn.Module]  # w0; in a tuple it is no part of the module, so that checkpoints are without it
    srt: StochasticResonance
    target: OnlineTarget
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str,
        weights: str | None = None,
        origin: str | None = None,
        origin_weights: str | None = None,
        position_embedding: PositionEmbedding = "timm",
        layers: Sequence[int | str] = (-1,),
        layer_weights: Sequence[float] | None = None,
        norm: bool = True,
        unit_tokens: bool = False,
        loss: Loss = "mse",
        trainable: TrainablePart = "all",
        last_n: int = 1,
        lora_rank: int = 8,
        lora_alpha: int = 16,
        penalty: Penalty = "l2_sp",
        penalty_weight: float = 0.0,
        shift_radius: int = 3,
        border: Border = "edge",
        margin: int = 3,
        shifts_per_step: int | None = None,
        shift_subset: Subset = "full",
        interpolation: Literal["nearest"] | Interpolation = "nearest",
        views_per_batch: ViewsPerBatch = 1,
        attention: AttentionKernel = "auto",
        compile: bool = False,
        target_cache: str | None = None,
        optimizer: OptimizerFactory = default_optimizer,
        layer_decay: float | None = None,
        lr_scheduler: SchedulerFactory | None = None,
        lr_interval: Literal["step", "epoch"] = "step",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        if layer_weights is not None and len(layer_weights) != len(layers):
            raise ValueError(f"{len(layer_weights)} layer_weights for {len(layers)} layers; give one weight a layer")
        check_target(shifts_per_step, shift_subset, loss, target_cache)
        self.layer_weights = tuple(layer_weights or [1.0] * len(layers))
        self._make_optimizer, self._make_scheduler = optimizer, lr_scheduler
        self.held_out = HeldOutScores(layers)
        self.origin: FrozenTeacher | None = None
        self._cache: TargetCache | None = None
        self._scores: dict[str, float] = {}

    def configure_model(self) -> None:
        """Load the backbone twice over: the student, and the frozen teacher it starts from; w0 if that is another."""
        if hasattr(self, "student") or self._trainer is None:  # without a trainer, a checkpoint brings its own weights
            return
        load = partial(load_backbone, position_embedding=self.hparams["position_embedding"])
        model = load(self.hparams["backbone"], weights=self.hparams["weights"])
        self._adopt(student=model, teacher=copy.deepcopy(model))
        if self.hparams["origin"] is not None:
            self.start = (load(self.hparams["origin"], weights=self.hparams["origin_weights"]),)
            self.origin = self._over(self._run(self._extractor(self.start[0])))

    def _w0(self) -> nn.Module:
        return self.start[0].to(self.mean)

    def _extractor(self, model: nn.Module) -> FeatureExtractor:
        return FeatureExtractor(model, tuple(self.hparams["layers"]), norm=self.hparams["norm"])

    def _run(self, extract: FeatureExtractor) -> Extractor:
        finished = run_with(extract, attention=self.hparams["attention"])
        return UnitTokens(finished) if self.hparams["unit_tokens"] else finished

    def _over(self, single: Extractor) -> FrozenTeacher:
        interpolation = self.hparams["interpolation"]
        filled = single if interpolation == "nearest" else InterpolatedFeatures(single, interpolation)
        sampling = self._given("border", "views_per_batch", "margin")
        return FrozenTeacher(single, StochasticResonance(filled, self.hparams["shift_radius"], **sampling))

    def _given(self, *names: str) -> dict[str, Any]:
        return {name: self.hparams[name] for name in names}

    def _adopt(self, student: nn.Module, teacher: nn.Module) -> None:
        self.student, self.teacher = student.eval(), teacher.eval().requires_grad_(False)
        self.start = (self.teacher,)
        info = describe_backbone(student)
        self.register_buffer("mean", torch.tensor(info.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(info.std).view(3, 1, 1), persistent=False)
        single = self._extractor(student)
        self.student_features, self.teacher_features = self._run(single), self._run(self._extractor(teacher))
        self.srt, subset = self._over(self.teacher_features).srt, self.hparams["shift_subset"]
        self.target = OnlineTarget(self.srt, subset=subset, **self._given("shifts_per_step", "seed"))
        blank = blank_image(student)
        check_radius(self.srt.radius, min(strides(blank, single(blank))), info.name)
        choose_trained(single, self.hparams["trainable"], **self._given("last_n", "lora_rank", "lora_alpha", "seed"))
        for model in (student, teacher) if self.hparams["compile"] else ():
            compile_blocks(model)

    def train(self, mode: bool = True) -> "SRTDistillation":
        """Set the mode of everything but the backbones: both stay in eval mode, whose features are distilled."""
        super().train(mode)
        if hasattr(self, "student"):
            self.student.eval()
            self.teacher.eval()
        return self

    def on_fit_start(self) -> None:
        """Open the target cache, if one is named.

        Raises:
            FileNotFoundError: If it is none.
            ValueError: If it is incomplete, damaged, or made of anything else than what this run would compute.
        """
        self.held_out.reset()  # what `trainer.validate` leaves are inference tensors, which training may not change
        if self.hparams["target_cache"] is not None:
            data = getattr(self.trainer, "datamodule", None)
            crops = data.crop_settings if isinstance(data, UnlabeledImages) else None
            self._cache = TargetCache(
                Path(self.hparams["target_cache"]), describe_settings(self.target_settings, crops)
            )

    @property
    def target_settings(self) -> TargetSettings:
        """What turns a crop into its full-grid target, known after `configure_model`."""
        mean, std = (tuple(float(v) for v in values.flatten()) for values in (self.mean, self.std))
        return TargetSettings(
            teacher=hash_weights(self.teacher),
            mean=mean,
            std=std,
            layers=tuple(self.hparams["layers"]),
            precision=str(self.trainer.precision),
            **self._given("position_embedding", "norm", "unit_tokens", "interpolation"),
            **self._given("shift_radius", "border", "margin"),
        )

    def normalize(self, batch: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Bytes to the numbers the backbone was pre-trained on: (x/255 - mean) / std."""
        return (batch / 255 - self.mean) / self.std

    def training_step(self, batch: UInt8[Tensor, "B 3 H W"], batch_idx: int) -> Tensor:
        """One step of Eq. 6: the student's single pass against SRT over the frozen teacher."""
        images = self.normalize(batch)
        with torch.no_grad():
            targets = self.target(images, self._draw_number(batch_idx)) if self._cache is None else self._cache(batch)
        maps = self.student_features(crop_margin(images, self.hparams["margin"]))

        losses = [feature_distance(m, t, self.hparams["loss"]) for m, t in zip(maps, targets, strict=True)]
        loss = torch.stack([w * layer_loss for w, layer_loss in zip(self.layer_weights, losses, strict=True)]).sum()
        for layer, layer_loss in zip(self.hparams["layers"], losses, strict=True):
            self.log(f"train/loss_layer_{layer}", layer_loss.detach())
        if self.hparams["penalty_weight"]:
            penalty = weight_penalty(paired_weights(self.student, self._w0()), self.hparams["penalty"])
            self.log("train/penalty", penalty.detach())
            loss = loss + self.hparams["penalty_weight"] * penalty
        self.log("train/loss", loss.detach(), prog_bar=True)
        return loss

    def _draw_number(self, batch_idx: int) -> int:
        """A number no other batch of this run has, the same again when the run is resumed."""
        batches = self.trainer.num_training_batches
        per_epoch = int(batches) if batches != float("inf") else 2**20
        return (self.current_epoch * per_epoch + batch_idx) * self.trainer.world_size + self.global_rank

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser over the trainable weights, with its schedule."""
        optimizer = scale_rates(self._make_optimizer(group_by_depth(self.student, self.hparams["layer_decay"])))
        if self._make_scheduler is not None:
            scheduler, interval = self._make_scheduler(optimizer), self.hparams["lr_interval"]
        else:
            scheduler, interval = schedule_one_cycle(optimizer, int(self.trainer.estimated_stepping_batches)), "step"
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}

    def validation_step(self, batch: UInt8[Tensor, "B 3 H W"], batch_idx: int) -> dict[str, tuple[Tensor, ...]]:
        """Compare student, teacher and the teacher's SRT on held-out images; see `HeldOutScores.update`."""
        self._w0()
        teacher = FrozenTeacher(self.teacher_features, self.srt)
        return self.held_out.update(self.normalize(batch), batch_idx, self.student_features, teacher, self.origin)

    def on_validation_epoch_end(self) -> None:
        """Log the held-out scores, and how far the weights have come from w0."""
        drift = weight_drift(paired_weights(self.student, self._w0()))
        for name, value in {**self.held_out.compute(), "weight_drift": drift}.items():
            self.log(f"val/{name}", value, prog_bar=name == "gap_closed", sync_dist=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the student without hub or weights file, and what tells its teacher from others."""
        checkpoint["backbone"] = backbone_config(self.student)
        checkpoint["teacher_hash"] = hash_weights(self.teacher)
        logged = self.trainer.callback_metrics.items()
        scores = {name: value.item() for name, value in logged if name.startswith(("val/", "davis/"))}
        checkpoint["scores"] = self._scores = {**self._scores, **scores}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuild the models from the checkpoint, or prove that a resumed run has the teacher it started with.

        Raises:
            ValueError: If the teacher at hand is not the one the checkpoint was trained from.
        """
        self._scores = dict(checkpoint["scores"])
        if hasattr(self, "student"):
            require_same_weights(self.teacher, checkpoint["teacher_hash"], self.hparams["backbone"])
        else:
            self._adopt(build_backbone(checkpoint["backbone"]), build_backbone(checkpoint["backbone"]))
