"""Export for Transformers' own classes, beside the wrapper round timm.

Shape legend: B images, K bands, C channels, H W pixels, h w tokens.
"""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from srt_distill.backbone import describe_backbone
from srt_distill.exporting.native_layout import to_native_layout
from srt_distill.exporting.verification import SCRIPTS, Expectation, Proof, require_equal, run_apart

NATIVE_FOLDER = "transformers"
NATIVE_BAR = 1e-4  # another attention kernel, another order of sums
ANTIALIASED = ("dinov2_with_registers",)  # resizes position embeddings as timm does


def write_native(expected: Expectation, folder: Path) -> Proof:
    """Write the subfolder transformers/: config.json, model.safetensors, preprocessor_config.json.

    At the native size the student's features must come out. At others the native classes resize position embeddings
    without antialiasing, which no file can change: there the student resized in that way must come out.

    Args:
        expected: The student and its features.
        folder: The export; the subfolder is made in it.

    Returns:
        The proof, with how far the two ways of resizing are apart.

    Raises:
        RuntimeError: If the native class computes something else.
        ValueError: If there is none for the student.
    """
    config, weights = to_native_layout(expected.model)
    target = folder / NATIVE_FOLDER
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (target / "preprocessor_config.json").write_text(json.dumps(_processor(expected.model, config), indent=2) + "\n")
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    outputs = run_apart(SCRIPTS / "plain_transformers.py", [str(target.resolve())], expected.images)
    wanted = dict(expected.features)
    if config["model_type"] not in ANTIALIASED:
        wanted = {name: _features_as_native(expected.model, expected.images[name], wanted[name]) for name in wanted}
    apart = max((wanted[name] - expected.features[name]).abs().max().item() for name in wanted)
    side = config["image_size"]
    remark = (
        f"away from {side}x{side} this class resizes position embeddings without antialiasing, and is compared with "
        f"the student resized so; features by timm's way differ from that by up to {apart:.2g} at the sizes tested. "
        "ViTModel and DeiTModel need interpolate_pos_encoding=True there"
    )
    return Proof(
        format=f"Transformers, {config['architectures'][0]}",
        file=NATIVE_FOLDER,
        loading=f'transformers.AutoModel.from_pretrained("FOLDER/{NATIVE_FOLDER}")',
        bar=NATIVE_BAR,
        differences=require_equal("a native folder for Transformers", outputs, wanted, NATIVE_BAR),
        remark=remark if apart else "",
    )


def _processor(model: Any, config: dict[str, Any]) -> dict[str, Any]:
    info = describe_backbone(model)
    side = config["image_size"]
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": side, "width": side},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(info.mean),
        "image_std": list(info.std),
    }


def _features_as_native(
    model: Any, images: Float[Tensor, "B K H W"], features: Float[Tensor, "B N C"]
) -> Float[Tensor, "B N C"]:
    """Compute the student's features with its position embedding resized without antialiasing."""
    native = model.patch_embed.grid_size
    rows, columns = (side // model.patch_embed.patch_size[0] for side in images.shape[-2:])
    if (rows, columns) == tuple(native):
        return features
    resized = copy.deepcopy(model)
    table = model.pos_embed.detach()
    prefix = table.shape[1] - native[0] * native[1]
    grid = table[:, prefix:].unflatten(1, native).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(rows, columns), mode="bicubic").flatten(2).transpose(1, 2)
    resized.pos_embed = torch.nn.Parameter(torch.cat([table[:, :prefix], grid], dim=1))
    resized.patch_embed.grid_size = (rows, columns)
    with torch.inference_mode():
        return resized.forward_features(images)
