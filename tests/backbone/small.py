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
