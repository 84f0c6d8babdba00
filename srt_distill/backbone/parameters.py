"""Which parameters train, and a fingerprint of all of them.

Shape legend: H W pixels of an image that is looked at for its gradients only.
"""

import hashlib
import statistics
from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from timm.models import group_parameters  # pyright: ignore[reportPrivateImportUsage]
from timm.optim import param_groups_layer_decay  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from srt_distill.backbone.adapters import add_adapters, head_prefixes
from srt_distill.backbone.features import FeatureExtractor, describe_backbone

TrainablePart = Literal["all", "last_n", "norm", "bias", "lora"]

USUAL_SIZE = 0.04
"""Root mean square of a weight matrix that an optimiser's rate is for: that of the smallest in the blocks of DeiT-Tiny,
on which recipes were tried."""


def select_trainable(model: nn.Module, part: TrainablePart, last_n: int = 1) -> list[str]:
    """Names of the parameters that a choice of part trains.

    The classifier and what belongs to it never trains: features stay in the teacher's space.

    Args:
        model: A backbone.
        part: `all`; `last_n` blocks with the final norm behind them; every `norm` layer; every `bias`; the `lora`
            adapters that the model has been given.
        last_n: How many blocks `last_n` means.

    Returns:
        Parameter names in the model's order.

    Raises:
        ValueError: If the model has fewer blocks than `last_n`, or no parameter of the part.
    """
    heads = head_prefixes(model)
    names = [name for name, _ in model.named_parameters() if not name.startswith(heads)]
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
    elif part == "lora":
        names = [name for name in names if ".lora_" in name]
    elif part == "bias":
        names = [name for name in names if name.rpartition(".")[2].endswith("bias")]
    if not names:
        raise ValueError(f"{type(model).__name__} has no parameters of part {part!r}; choose another part to train")
    return names


def blank_image(model: nn.Module) -> Float[Tensor, "1 _K H W"]:
    """Make the smallest black image that shows the shape of a backbone's maps and where gradients flow."""
    info = describe_backbone(model)
    size = info.fixed_size or (2 * info.patch_size,) * 2
    return torch.zeros(1, info.num_channels, *size, device=next(model.parameters()).device)


def choose_trained(
    extract: FeatureExtractor, part: TrainablePart, *, last_n: int, lora_rank: int, lora_alpha: int, seed: int
) -> None:
    """Let a part of a backbone train, in place, less what no chosen map depends on: DDP would wait for that in vain.

    Args:
        extract: The extractor whose maps are trained; its model gets adapters where they are the part.
        part: See `select_trainable`.
        last_n: How many blocks `last_n` means.
        lora_rank: Rank of adapters; see `srt_distill.backbone.adapters`.
        lora_alpha: Their scale.
        seed: Of their first values.

    Raises:
        ImportError: If adapters are asked for and peft is not installed.
        ValueError: If the model has no such part.
    """
    model = extract.model
    if part == "lora":
        add_adapters(model, lora_rank, lora_alpha, seed)
    model.requires_grad_(False)
    parameters = dict(model.named_parameters())
    chosen = [parameters[name].requires_grad_(True) for name in select_trainable(model, part, last_n)]
    with torch.enable_grad():
        total = torch.stack([maps.sum() for maps in extract(blank_image(model))]).sum()
    reached = torch.autograd.grad(total, chosen, allow_unused=True)
    for parameter, gradient in zip(chosen, reached, strict=True):
        parameter.requires_grad_(gradient is not None)


def measure_weights(model: nn.Module) -> dict[str, float]:
    """Root mean square of every weight matrix behind the stem, by name: of parameters of two or more dimensions.

    The stem, as timm has it, is what makes tokens of pixels: the patch embedding, position embeddings, the class token.
    """
    traits: Any = model  # timm's methods, unknown to nn.Module
    depths = group_parameters(model, traits.group_matcher(), reverse=True) if hasattr(model, "group_matcher") else {}
    matrices = {n: p for n, p in model.named_parameters() if p.ndim > 1 and depths.get(n) != 0}
    return {name: p.detach().float().square().mean().sqrt().item() for name, p in matrices.items()}


def group_by_rate(model: nn.Module, decay: float | None, sizes: Mapping[str, float] | None) -> list[dict[str, Any]]:
    """Trained parameters for an optimiser, in groups of one factor on the learning rate.

    With sizes, a matrix has a rate in proportion to its own, at most the optimiser's; what has no size of its own
    (the stem, biases, scales, adapters, matrices of zeros) is scaled as the mean of all. A step of Adam moves a weight
    by about the rate, however small the weight: what nudges one model carries another away. Relative steps are those
    of LARS (You et al., 2017) and Adafactor (Shazeer and Stern, 2018).

    Args:
        model: A backbone.
        decay: Factor from each layer to the one before it (BEiT; Bao et al., ICLR 2022); the last trained layer has 1.
            None for 1 everywhere.
        sizes: Of the matrices of w0, by name; see `measure_weights`. None for 1 everywhere.

    Returns:
        Groups with `params` and `lr_scale`.

    Raises:
        ValueError: If the decay is not above 0 and at most 1.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    scales = dict.fromkeys(map(id, trained.values()), 1.0)
    if decay is not None:
        scales = _scale_by_depth(model, decay)
    if sizes is not None:
        usual = statistics.fmean(sizes.values())
        for name, parameter in trained.items():
            scales[id(parameter)] *= min(1.0, (sizes.get(name) or usual) / USUAL_SIZE)
    by_scale: dict[float, list[nn.Parameter]] = {}
    for parameter in trained.values():
        by_scale.setdefault(scales[id(parameter)], []).append(parameter)
    return [{"params": params, "lr_scale": scale} for scale, params in by_scale.items()]


def _scale_by_depth(model: nn.Module, decay: float) -> dict[int, float]:
    if not 0 < decay <= 1:
        raise ValueError(f"layer_decay {decay} must be above 0 and at most 1, such as 0.75; use null for one rate")
    groups = param_groups_layer_decay(model, layer_decay=decay)
    top = max(group["lr_scale"] for group in groups)
    return {id(parameter): group["lr_scale"] / top for group in groups for parameter in group["params"]}


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


def require_same_weights(model: nn.Module, expected: str, name: str) -> None:
    """Prove that a run which is resumed has the teacher it was started from.

    Args:
        model: The teacher at hand.
        expected: `hash_weights` of the teacher at the start.
        name: Where the teacher was loaded from, for the message.

    Raises:
        ValueError: If it is another.
    """
    found = hash_weights(model)
    if found != expected:
        raise ValueError(
            f"this run was started from teacher {expected[:12]}…, but {name} now loads {found[:12]}…; resume with the "
            "original weights, or start a new run in another folder"
        )
