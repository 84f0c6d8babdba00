"""Load a backbone: a plain timm model with weights that are known to fit.

Shape legend: B images, C channels, H W pixels, h w tokens, p patch side in pixels.
"""

import logging
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import timm
from timm.models import model_entrypoint
from torch import Tensor, nn

from srt_distill.backbone.checkpoints import drop_foreign, read_weights, require_finite, strip_prefixes
from srt_distill.backbone.names import resolve_name
from srt_distill.backbone.position import PositionEmbedding, set_position_embedding
from srt_distill.hub import fetching

logger = logging.getLogger(__name__)

MAX_LISTED = 12  # tensors named in an error
MAX_SHOWN = 3  # of the file's own names, shown beside them


def load_backbone(
    name: str,
    *,
    weights: str | Path | None = None,
    pretrained: bool = True,
    position_embedding: PositionEmbedding = "timm",
) -> nn.Module:
    """Load a backbone by name, folder or weights file.

    Args:
        name: timm name (`vit_small_patch16_224.dino`: weights from the hub), `local-dir:<folder>` or
            `hf-hub:<owner>/<repository>`.
        weights: A file to take the weights from instead: `.safetensors` or `.pth`, in timm's layout or the original
            release's.
        pretrained: With `False`, random weights.
        position_embedding: How position embeddings are resized to other image sizes; `dino` reproduces DINO's numbers.

    Returns:
        The timm model in eval mode, taking any image size where the family can. A classifier head is kept where the
        weights have one, and left out otherwise.

    Raises:
        FileNotFoundError: If the folder or the weights file is missing.
        OSError: If the weights could not be fetched from the hub.
        ValueError: If the model is unknown, has no weights, or the weights do not fit.
    """
    if weights is not None and not pretrained:
        raise ValueError(f"weights={weights} and pretrained=False contradict each other; drop one of them")
    source = resolve_name(name)
    file = Path(weights).expanduser() if weights is not None else source.weights
    if pretrained and file is None and name.startswith("local-dir:"):
        raise FileNotFoundError(f"{name.partition(':')[2]} holds no weights file; expected model.safetensors")
    if pretrained and file is not None:
        model = _load_file(source.name, source.architecture, source.model_args, file)
    else:
        model = create_backbone(source.name, source.model_args, pretrained=pretrained)
    if pretrained:
        require_finite(model.state_dict(), file or name)
    set_position_embedding(model, position_embedding)
    return model.eval()


def create_backbone(
    name: str,
    model_args: Mapping[str, Any],
    *,
    pretrained: bool = False,
    pretrained_cfg: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
) -> nn.Module:
    """Build a timm model that takes any image size where its family can, and remember how it was built.

    Args:
        name: What timm is called with.
        model_args: Construction arguments.
        pretrained: Let timm fetch the weights.
        pretrained_cfg: timm's description of the weights (mean, std, ...), where it is not found by name.
        num_classes: Rows of the classifier, 0 for none; `None` for what the weights' description says.

    Returns:
        The model; `backbone_args` among its attributes holds the construction arguments.

    Raises:
        OSError: If the weights could not be fetched.
        ValueError: If timm has no weights of that name.
    """
    build_args = {key: value for key, value in model_args.items() if key != "num_classes"}
    build_args.setdefault("dynamic_img_size", True)
    try:
        model = _create(name, build_args, pretrained, pretrained_cfg, num_classes)
    except TypeError as error:
        if "dynamic_img_size" not in str(error) or "dynamic_img_size" in model_args:
            raise
        del build_args["dynamic_img_size"]  # a family without the option: convolutional, or of fixed size
        model = _create(name, build_args, pretrained, pretrained_cfg, num_classes)
    vars(model)["backbone_args"] = build_args
    return model


def _create(
    name: str,
    build_args: Mapping[str, Any],
    pretrained: bool,
    pretrained_cfg: Mapping[str, Any] | None,
    num_classes: int | None,
) -> nn.Module:
    extra: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if pretrained_cfg is not None:
        extra["pretrained_cfg"] = dict(pretrained_cfg)
    if not pretrained:
        return timm.create_model(name, **build_args, **extra)
    try:
        with fetching(f"the weights of {name}", "give weights=<file> or a local-dir:<folder>"):
            return timm.create_model(name, pretrained=True, **build_args, **extra)
    except RuntimeError as error:
        if "pretrained" not in str(error).lower():
            raise
        raise ValueError(f"{error} Give weights=<file>, or pretrained=False for random weights") from error


def _load_file(name: str, architecture: str, model_args: Mapping[str, Any], file: Path) -> nn.Module:
    stored = read_weights(file)
    model = create_backbone(name, model_args)
    stored = strip_prefixes(stored, model.state_dict().keys(), file)
    _check_patch_embedding(stored, model, file, name)
    state = _apply_release_filter(stored, model, architecture, file)
    num_classes = _count_classes(state, model)
    if num_classes != model.num_classes:
        model = create_backbone(name, model_args, num_classes=num_classes)
    state = drop_foreign(state, model.state_dict().keys(), file)
    _check_fit(state, model, file, name, stored)
    model.load_state_dict(state)
    if name == architecture:
        described = vars(model)["pretrained_cfg"]
        _say_normalization(file.name, name, tuple(described["mean"]), tuple(described["std"]))
        for key in ("tag", "license"):  # timm's default weights of this architecture, which these are not
            described.pop(key, None)
    return model


@cache
def _say_normalization(file: str, name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Say once which mean and std are taken for weights that state none."""
    logger.warning(
        "%s states no mean and std: images are normalised with mean %s and std %s, those of timm's default weights of "
        "%s. If these weights were trained with others, name timm weights that have them (%s.<tag>), or "
        "a local-dir:<folder> whose config.json states them",
        *(file, mean, std, name, name),
    )


def _apply_release_filter(
    state: dict[str, Tensor], model: nn.Module, architecture: str, file: Path
) -> dict[str, Tensor]:
    """Translate with the checkpoint filter of the model's timm module, where it has one."""
    filter_release = getattr(sys.modules[model_entrypoint(architecture).__module__], "checkpoint_filter_fn", None)
    if filter_release is None:
        return state
    try:
        return dict(filter_release(dict(state), model))
    except (KeyError, RuntimeError, AttributeError, IndexError, ValueError) as error:
        raise ValueError(
            f"{file} does not fit {architecture}: timm could not translate its layout ({error!r}){_show_names(state)}"
        ) from error


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Name the modules of the classifier layer or layers, as the model's timm description gives them."""
    traits: Any = model  # timm's attributes, unknown to nn.Module
    names = traits.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _count_classes(state: Mapping[str, Tensor], model: nn.Module) -> int:
    found = [state[f"{name}.weight"] for name in classifier_names(model) if f"{name}.weight" in state]
    return found[0].shape[0] if found else 0


def _check_patch_embedding(state: Mapping[str, Tensor], model: nn.Module, file: Path, name: str) -> None:
    """Refuse another patch side before timm's filter resamples the kernel to the model's."""
    expected, given = model.state_dict().get("patch_embed.proj.weight"), state.get("patch_embed.proj.weight")
    if (
        expected is not None
        and given is not None
        and expected.ndim == given.ndim == 4
        and expected.shape != given.shape
    ):
        raise ValueError(
            f"{file} does not fit {name}: patch_embed.proj.weight is {tuple(given.shape)} in the file, "
            f"{tuple(expected.shape)} in the model; give the model name of that patch side and width"
        )


def _check_fit(
    state: Mapping[str, Tensor], model: nn.Module, file: Path, name: str, stored: Mapping[str, Tensor]
) -> None:
    expected = model.state_dict()
    faults = [f"missing {key} {tuple(value.shape)}" for key, value in expected.items() if key not in state]
    faults += [
        f"mis-shaped {key} {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    faults += [f"unexpected {key}" for key in state if key not in expected]
    if faults:
        listed = "\n  ".join(faults[:MAX_LISTED])
        more = f"\n  ... and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
        raise ValueError(
            f"{file} does not fit {name}: {len(faults)} of {len(expected)} tensors\n  {listed}{more}\n"
            f"give the model name that these weights were trained with{_show_names(stored)}"
        )


def _show_names(stored: Mapping[str, Tensor]) -> str:
    """Show some of the names that a file holds, for a reader to compare."""
    names = list(stored)
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f"; the file holds {', '.join(names[:MAX_SHOWN])}{more}"
