"""Which parameters train, and a fingerprint of all of them.

Shape legend: none, parameters are only named and hashed here.
"""

import hashlib
from typing import Any, Literal

import torch
from torch import nn

from srt_distill.backbone.loading import classifier_names

# Modules behind the dense features: a classifier's own pooling, norm and layers
HEAD_MODULES = ("head", "head_dist", "fc", "fc_norm", "attn_pool", "classifier")

TrainablePart = Literal["all", "last_n", "norm", "bias"]


def select_trainable(model: nn.Module, part: TrainablePart, last_n: int = 1) -> list[str]:
    """Names of the parameters that a choice of part trains.

    The classifier and what belongs to it never trains: features stay in the teacher's space.

    Args:
        model: A backbone.
        part: `all`; `last_n` blocks with the final norm behind them; every `norm` layer; every `bias`.
        last_n: How many blocks `last_n` means.

    Returns:
        Parameter names in the model's order.

    Raises:
        ValueError: If the model has fewer blocks than `last_n`, or no parameter of the part.
    """
    heads = (*HEAD_MODULES, *classifier_names(model))
    names = [name for name, _ in model.named_parameters() if not name.startswith(tuple(f"{head}." for head in heads))]
    if part == "last_n":
        traits: Any = model  # timm's attributes, unknown to nn.Module
        num_layers = len(traits.feature_info)
        if not 1 <= last_n <= num_layers:
            raise ValueError(
                f"last_n={last_n} is out of range; this backbone has {num_layers} layers, choose 1 to {num_layers}"
            )
        wanted = tuple(f"{info['module']}." for info in list(traits.feature_info)[-last_n:])
        names = [name for name in names if name.startswith((*wanted, "norm."))]
    elif part == "norm":
        norms = tuple(f"{name}." for name, module in model.named_modules() if "norm" in type(module).__name__.lower())
        names = [name for name in names if name.startswith(norms)]
    elif part == "bias":
        names = [name for name in names if name.rpartition(".")[2].endswith("bias")]
    if not names:
        raise ValueError(f"{type(model).__name__} has no parameters of part {part!r}; choose another part to train")
    return names


def hash_weights(model: nn.Module) -> str:
    """Fingerprint of a model's weights: SHA-256 over sorted keys, shapes, dtypes and bytes.

    Args:
        model: Any module.

    Returns:
        64 hexadecimal digits, the same on every device.
    """
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
