"""Write a backbone out, and rebuild one without its weights.

Shape legend: none, models are only described and written here.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.models import save_for_hf
from torch import nn

from srt_distill.backbone.loading import create_backbone
from srt_distill.backbone.position import get_position_embedding, set_position_embedding
from srt_distill.files import share

# Where the weights came from: no part of what the model is, and a path on somebody's machine
SOURCE_KEYS = ("url", "file", "source", "state_dict", "hf_hub_id", "hf_hub_filename")
# Construction arguments that the saved configuration states elsewhere; in model_args they make Transformers' timm
# wrapper raise, which passes num_classes itself
STATED_ELSEWHERE = ("num_classes",)


def backbone_config(model: nn.Module) -> dict[str, Any]:
    """Everything needed to rebuild a backbone but its weights, as primitives.

    Args:
        model: A backbone.

    Returns:
        `architecture`, `model_args`, `pretrained_cfg` (with mean and std), `num_classes`, `position_embedding`, made
        of strings, numbers, lists and dicts only.
    """
    traits: Any = model  # timm's attributes, unknown to nn.Module
    described = traits.pretrained_cfg
    config = {key: value for key, value in described.items() if key not in SOURCE_KEYS and value is not None}
    config["custom_load"] = False  # describes the file the weights came from
    return {
        "architecture": config["architecture"],
        "model_args": _to_primitives(_model_args(model)),
        "pretrained_cfg": _to_primitives(config),
        "num_classes": traits.num_classes,
        "position_embedding": get_position_embedding(model),
    }


def build_backbone(config: Mapping[str, Any]) -> nn.Module:
    """Rebuild a backbone with random weights: no hub, no weights file.

    Args:
        config: What `backbone_config` returned. Only `architecture` is required, so that a small model can be built as
            `{"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 4}, "num_classes": 0}`.

    Returns:
        The model in eval mode, with the keys and shapes of the one described.

    Raises:
        ValueError: If a key is unknown or the position embedding does not fit the model.
    """
    known = ("architecture", "model_args", "pretrained_cfg", "num_classes", "position_embedding")
    unknown = [key for key in config if key not in known]
    if unknown or "architecture" not in config:
        raise ValueError(
            f"a backbone config needs 'architecture' and may have {', '.join(known)}; got {', '.join(config)}"
        )
    described = config.get("pretrained_cfg")
    if described is not None:
        described = {key: tuple(value) if isinstance(value, list) else value for key, value in described.items()}
    model = create_backbone(
        config["architecture"],
        config.get("model_args") or {},
        pretrained_cfg=described,
        num_classes=config.get("num_classes"),
    )
    set_position_embedding(model, config.get("position_embedding", "timm"))
    return model.eval()


def save_backbone(model: nn.Module, folder: str | Path) -> None:
    """Write a timm folder: `timm.create_model("local-dir:<folder>", pretrained=True)` loads it anywhere.

    Args:
        model: A backbone.
        folder: Gets `config.json` and `model.safetensors`; made if absent.
    """
    folder = Path(folder)
    save_for_hf(model, str(folder), model_args=_model_args(model), safe_serialization=True)
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text())
    config["model_args"] = {
        key: value for key, value in config.get("model_args", {}).items() if key not in STATED_ELSEWHERE
    }
    config_file.write_text(json.dumps(config, indent=2) + "\n")
    share(folder / "model.safetensors")


def _model_args(model: nn.Module) -> dict[str, Any]:
    """Return construction arguments as remembered by `create_backbone`, or by timm for a model made elsewhere."""
    remembered = vars(model).get("backbone_args", vars(model).get("_model_args", {}))
    return {key: value for key, value in remembered.items() if key not in STATED_ELSEWHERE}


def _to_primitives(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_primitives(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_primitives(item) for item in value]
    return value
