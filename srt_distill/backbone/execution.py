"""How a backbone is run: number format, attention kernel, compilation. The features stay the same up to rounding.

Shape legend: B images, C channels, H W pixels, h w tokens.

Channels-last memory is no option: a ViT has one convolution, its patch embedding, whose time is lost in that of the
blocks.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from srt_distill.extractor import Extractor

Precision = Literal["float32", "bfloat16"]
"""Format of the multiplications: full, or bfloat16 by autocast, with normalisations, averages and maps in fp32.

Features under bfloat16 agree with those in full precision to about 1%, in the norm of a map.
"""

AttentionKernel = Literal["auto", "flash", "memory_efficient", "cudnn", "math"]
"""Which kernel computes attention: torch's choice, or one by name. They agree to rounding."""

_KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "memory_efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}

BLOCK_LISTS = ("blocks", "stages", "layers")
"""Names under which timm's transformers and hierarchical networks keep what they run one after another."""


def run_with(extract: Extractor, precision: Precision = "float32", attention: AttentionKernel = "auto") -> Extractor:
    """Run the same extractor in another number format or with another attention kernel.

    Args:
        extract: Any extractor.
        precision: Format of the multiplications.
        attention: Kernel of `torch.nn.functional.scaled_dot_product_attention`; models that compute attention without
            it are not affected.

    Returns:
        An extractor; the given one itself where there is nothing to change. Calling it raises a RuntimeError if the
        kernel cannot compute this model's attention on the images' device.
    """
    if attention != "auto":
        extract = _with_attention(extract, attention)
    return extract if precision == "float32" else _with_autocast(extract)


def compile_blocks(model: nn.Module) -> None:
    """Compile the blocks of a backbone with `torch.compile`, in place: at their next use, and once per image size.

    Blocks of one kind share their code, so a deep model compiles as fast as a shallow one. Names and weights stay as
    they are: the model is saved, copied and exported as if it were not compiled.

    Args:
        model: A backbone.

    Raises:
        ValueError: If it has no list of blocks or stages.
    """
    lists = [found for name in BLOCK_LISTS if isinstance(found := getattr(model, name, None), nn.Module)]
    blocks = list(lists[0].children()) if lists else []
    if not blocks:
        raise ValueError(
            f"{type(model).__name__} has none of {', '.join(BLOCK_LISTS)}, of which one is compiled; leave compile off"
        )
    for block in blocks:
        block.compile()


def _with_attention(extract: Extractor, attention: Literal["flash", "memory_efficient", "cudnn", "math"]) -> Extractor:
    def run(images: Tensor) -> tuple[Tensor, ...]:
        try:
            with sdpa_kernel(_KERNELS[attention]):
                return extract(images)
        except RuntimeError as error:
            if not any(words in str(error).lower() for words in ("no available kernel", "no viable backend")):
                raise
            raise RuntimeError(
                f"attention kernel {attention!r} cannot run this model on {images.device.type} ({error}); use 'auto'"
            ) from error

    return run


def _with_autocast(extract: Extractor) -> Extractor:
    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            return tuple(maps.float() for maps in extract(images))

    return run
