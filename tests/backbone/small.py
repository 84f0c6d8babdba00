"""Small randomly initialised models as timm folders, to stand in for released ones."""

from pathlib import Path

import timm
import torch

from srt_distill.backbone import build_backbone, save_backbone

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}


def tiny_folder(folder: Path, architecture: str = "vit_tiny_patch16_224", num_classes: int = 0, **args) -> Path:
    """A timm folder of a small randomly initialised model."""
    config = {"architecture": architecture, "model_args": {**TINY, **args}, "num_classes": num_classes}
    torch.manual_seed(0)
    model = build_backbone(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    save_backbone(model, folder)
    return folder


def stored(folder: Path) -> dict[str, torch.Tensor]:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    mine = model.state_dict()
    return mine.keys() == state.keys() and all(torch.equal(mine[key], state[key]) for key in mine)


PLAIN = {"embed_dim": 24, "depth": 3, "num_heads": 2}
STAGED = {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
# One name a family, with what makes it small
FAMILIES: dict[str, dict] = {
    "vit_small_patch16_224": PLAIN,
    "deit3_small_patch16_224": PLAIN,
    "deit_tiny_distilled_patch16_224": PLAIN,
    "vit_small_patch14_reg4_dinov2": PLAIN,
    "vit_small_patch16_dinov3_qkvb": PLAIN,
    "vit_base_patch16_clip_224": PLAIN,
    "vit_base_patch16_siglip_224": PLAIN,
    "beit_base_patch16_224": PLAIN,
    "eva02_tiny_patch14_224": PLAIN,
    "samvit_base_patch16_224": {**PLAIN, "global_attn_indexes": (2,)},
    "flexivit_small": PLAIN,
    "naflexvit_base_patch16_gap": PLAIN,
    "vit_small_patch16_18x2_224": PLAIN,
    "xcit_nano_12_p8_224": PLAIN,
    "swin_tiny_patch4_window7_224": STAGED,
    "swinv2_tiny_window8_256": STAGED,
    "hiera_tiny_224": {"embed_dim": 24, "stages": (1, 1, 1, 1), "num_heads": 1},
    "pvt_v2_b0": {"depths": (1, 1, 1, 1)},
    "twins_svt_small": {"depths": (1, 1, 1, 1)},
    "test_convnext": {},
    "test_resnet": {},
}


def build_small(name: str, **changes) -> torch.nn.Module:
    """A randomly initialised model of a family, in eval mode, without classifier."""
    torch.manual_seed(0)
    return build_backbone({"architecture": name, "model_args": {**FAMILIES[name], **changes}, "num_classes": 0})
