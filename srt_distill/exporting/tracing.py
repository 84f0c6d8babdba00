"""Trace a backbone once, for any number of images of any size that it takes.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens, p patch side in pixels.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from srt_distill.backbone import BackboneInfo, describe_backbone
from srt_distill.exporting.verification import reason_of

INPUT, OUTPUT = "images", "features"


class Features(nn.Module):
    """A backbone whose pass is `forward_features`: what every exported format computes."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone: Any = backbone

    def forward(self, images: Float[Tensor, "B K H W"]) -> Float[Tensor, "B ..."]:
        """Normalised images to the last block's tokens after the final norm, or to the last map of a convnet."""
        return self.backbone.forward_features(images)


def trace_backbone(model: nn.Module) -> ExportedProgram:
    """Trace the features of a backbone with the number of images, their height and width left open.

    Height and width stay multiples of the patch side; a model of one size keeps it.

    Args:
        model: A backbone in eval mode, on the CPU.

    Returns:
        The program.

    Raises:
        RuntimeError: If the model's computation depends on the image size in a way that cannot be traced.
    """
    info = describe_backbone(model)
    images = torch.zeros(2, info.num_channels, *_example_size(info))
    try:
        program = torch.export.export(
            Features(model).eval(), (images,), dynamic_shapes={INPUT: dynamic_axes(info)}, strict=False
        )
    except Exception as error:  # torch.export raises of many kinds, its own and the model's
        raise RuntimeError(
            f"{info.name} cannot be traced for images of any size: {reason_of(error)}; leave out the formats onnx and "
            "torch_export"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine, in every file that is written from the program
    return program


def dynamic_axes(info: BackboneInfo) -> dict[int, Any]:
    """Which axes of the images stay open, as torch.export describes them.

    Args:
        info: Description of the backbone.

    Returns:
        Per axis its dimension: the batch, and multiples of the patch side for height and width.
    """
    axes: dict[int, Any] = {0: Dim("batch")}
    if info.fixed_size is None:
        axes |= {2: info.patch_size * Dim("rows"), 3: info.patch_size * Dim("columns")}
    return axes


def _example_size(info: BackboneInfo) -> tuple[int, int]:
    """Choose an image whose sides are nothing special: the program must hold for others."""
    return info.fixed_size or (6 * info.patch_size, 9 * info.patch_size)
