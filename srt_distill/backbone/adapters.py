"""Low-rank adapters (LoRA; Hu et al., ICLR 2022) in a backbone, and the plain weights that they amount to.

Shape legend: r rank, n m sides of a weight matrix.

While it trains, an adapted linear layer computes (W + α/r B A) x with W (n, m) frozen, B (n, r) and A (r, m). Its plain
weight is that sum, so a student with adapters stands for a plain model with the keys and the cost of its teacher.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from srt_distill.backbone.loading import classifier_names

# Modules behind the dense features: a classifier's own pooling, norm and layers
HEAD_MODULES = ("head", "head_dist", "fc", "fc_norm", "attn_pool", "classifier")

ADAPTER = "default"  # peft's name of a layer's only adapter


def head_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return what the names of a classifier's parameters and modules begin with."""
    return tuple(f"{name}." for name in (*HEAD_MODULES, *classifier_names(model)))


def add_adapters(model: nn.Module, rank: int, alpha: int, seed: int = 0) -> None:
    """Put an adapter on every linear layer but the classifier's, in place; features stay what they are.

    Args:
        model: A backbone.
        rank: r.
        alpha: α; the product of the two matrices is scaled by α/r.
        seed: Of the A that are drawn; the B are zero.

    Raises:
        ImportError: If peft is not installed.
        ValueError: If the rank is not positive, or the model has no linear layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(
            "trainable 'lora' needs peft, which is not installed; pip install 'srt-distill[lora]', or choose another "
            "part to train"
        ) from error
    if rank < 1:
        raise ValueError(f"lora_rank {rank} is not a positive number; use 1 or more, such as 8")
    heads = head_prefixes(model)
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not f"{name}.".startswith(heads)
    ]
    if not names:
        raise ValueError(f"{type(model).__name__} has no linear layers to adapt; choose another part to train")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=names), model, ADAPTER)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:  # peft drew them from the global source of random numbers
            bound = 1 / math.sqrt(parameter.shape[1])
            with torch.no_grad():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2 * bound - bound)


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of the plain model that a model with or without adapters stands for.

    Args:
        model: A backbone.

    Returns:
        Tensors by the plain model's keys, attached to the graph of the adapters' weights.
    """
    state: dict[str, Tensor] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        if ".lora_" not in key:
            state[key.replace(".base_layer.", ".")] = value
    for name, module in model.named_modules():
        adapted: Any = module
        if hasattr(module, "base_layer"):
            state[f"{name}.weight"] = state[f"{name}.weight"] + adapted.get_delta_weight(ADAPTER)
    return state


def paired_weights(model: nn.Module, start: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """(w, w0) of every parameter of a plain model: as a model with or without adapters has it now, and at the start.

    Args:
        model: A backbone; where w depends on what trains, it requires a gradient.
        start: The plain model it came from.
    """
    state = plain_state(model)
    return [(state[name], weight) for name, weight in start.named_parameters()]
