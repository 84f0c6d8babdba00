"""A backbone ready for judging: on its device, read at any layers, through the readout that it declares.

Shape legend: B images, C channels, H W pixels, h w tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from srt_distill.backbone import (
    BackboneInfo,
    FeatureExtractor,
    backbone_normalization,
    classifier,
    describe_backbone,
    hash_weights,
)
from srt_distill.backbone.execution import compile_blocks, run_with
from srt_distill.backbone.layers import parse_layer
from srt_distill.backbone.options import BackboneOptions, ExecutionOptions, FeatureOptions
from srt_distill.extractor import Extractor
from srt_distill.runs import Readout, ThroughReadout, declared_readout, open_backbone
from srt_distill.tasks import Candidate
from srt_distill.tasks.candidate import ReadFeatures


@dataclass(frozen=True)
class Model:
    """A backbone with what all candidates over it share.

    Attributes:
        module: The backbone, on its device.
        features: Which features are judged where a task does not name layers.
        execution: How it is run.
        info: Its description.
        readout: How its maps are read, as its run or export declares.
    """

    module: nn.Module
    features: FeatureOptions
    execution: ExecutionOptions
    info: BackboneInfo
    readout: Readout = "none"

    def read(self, layers: Sequence[int | str], norm: bool) -> Extractor:
        """Read the single pass at some layers, through the readout."""
        return self.finish(self.run(FeatureExtractor(self.module, tuple(layers), norm=norm)), layers)

    def run(self, extract: Extractor) -> Extractor:
        """Run passes of the backbone at its precision and with its attention kernel."""
        return run_with(extract, self.execution.precision, self.execution.attention)

    def finish(self, extract: Extractor, layers: Sequence[int | str]) -> Extractor:
        """Read maps of the given layers through the readout."""
        return extract if self.readout == "none" else ThroughReadout(extract, tuple(layers), self.readout)

    def candidate(
        self,
        name: str,
        wrap: Callable[[Extractor], Extractor],
        passes: int = 1,
        **details: Any,
    ) -> Candidate:
        """Make a candidate of what is made of the single pass's features; see `reading`."""
        return self.reading(name, lambda layers, norm: wrap(self.read(layers, norm)), passes, **details)

    def reading(self, name: str, read: ReadFeatures, passes: int = 1, **details: Any) -> Candidate:
        """Make a candidate over this model.

        Args:
            name: Of its rows.
            read: Layers, and whether the final norm is applied, to the extractor.
            passes: Forward passes per image.
            details: What tells it from other candidates over the same model, as plain data.
        """
        execution = {"precision": self.execution.precision, "attention": self.execution.attention}
        identity = {"architecture": self.info.name, "weights": hash_weights(self.module)}
        declared = {} if self.readout == "none" else {"readout": self.readout}
        return Candidate(
            name=name,
            extract=read((self.features.layer,), self.features.norm),
            normalization=backbone_normalization(self.module),
            passes=passes,
            num_parameters=self.info.num_parameters,
            fingerprint={**identity, **declared, **asdict(self.features), **execution, **details},
            device=next(self.module.parameters()).device,
            read=read,
            classify=classifier(self.module),
        )


def load_model(options: BackboneOptions, features: FeatureOptions, execution: ExecutionOptions) -> Model:
    """Load a backbone for judging.

    Raises:
        ValueError: If the name, weights, layer or device fit nothing; see `srt_distill.runs.open_backbone`.
        FileNotFoundError: If a folder is neither a run nor an export.
    """
    require_maps([features.layer])
    device = choose_device(execution.device)
    readout = declared_readout(options.name)
    return prepare_model(open_backbone(options), features, replace(execution, device=str(device)), readout)


def prepare_model(
    module: nn.Module, features: FeatureOptions, execution: ExecutionOptions, readout: Readout = "none"
) -> Model:
    """Make a backbone at hand ready for judging: on its device, compiled if asked."""
    module = module.to(choose_device(execution.device))
    if execution.compile:
        compile_blocks(module)
    FeatureExtractor(module, (features.layer,), norm=features.norm)  # refuses a layer that the model lacks
    return Model(module, features, execution, describe_backbone(module), readout)


def require_maps(layers: Sequence[int | str]) -> None:
    """Refuse class and register tokens where a map of the image is judged or drawn.

    Raises:
        ValueError: If a spec means prefix tokens.
    """
    for layer in layers:
        if parse_layer(layer).facet == "prefix":
            raise ValueError(
                f"layer {layer} is of class and register tokens, which are no map of the image; choose one without "
                "':prefix' (they can be distilled, with `srt-distill fit --model.layers`)"
            )


def choose_device(device: str) -> torch.device:
    """Find the named device; `auto` is the accelerator at hand, or the CPU.

    Raises:
        ValueError: If torch does not know or see the device.
    """
    if device == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} is not to be had here ({error}); use 'cpu' or 'auto'") from error
