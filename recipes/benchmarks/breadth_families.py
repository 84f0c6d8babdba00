"""Which timm names recipes/benchmarks/breadth.py takes, family by family, and what makes each family small.

Shape legend: none.
"""

import fnmatch
import itertools
from dataclasses import dataclass, field
from typing import Any

import timm

PLAIN = {"embed_dim": 48, "depth": 4, "num_heads": 4}
FIXED = {**PLAIN, "img_size": 64}  # these take one image size only, which is cut too
SWIN = {"embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)}
PYRAMID = {"embed_dims": (24, 48, 48, 96), "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)}
HIERA = {"embed_dim": 24, "stages": (1, 1, 2, 1), "num_heads": 1}


@dataclass(frozen=True)
class Family:
    """Names that go together in the table, and the construction arguments that make them small."""

    title: str
    patterns: tuple[str, ...]
    small: dict[str, Any] = field(default_factory=dict)


# The first family that a name fits is the one it counts for.
FAMILIES = (
    Family("DeiT-3", ("deit3_*",), PLAIN),
    Family("DeiT, distilled or not", ("deit_*",), PLAIN),
    Family("DINOv2 with registers; TIPSv2", ("vit_*reg4_dinov2", "vit_*tipsv2"), PLAIN),
    Family("DINOv2", ("vit_*dinov2",), PLAIN),
    Family("DINOv3", ("vit_*dinov3*",), PLAIN),
    Family("Sapiens2", ("vit_*sapiens2",), {**PLAIN, "num_kv_heads": 2}),
    Family("Perception Encoder, LingBot", ("vit_pe_*", "vit_*lingbot"), PLAIN),
    Family("SigLIP vision tower", ("vit_*siglip*",), PLAIN),
    Family("CLIP vision tower, also EVA's", ("vit_*clip*", "eva*_clip_*"), PLAIN),
    Family("CLIP vision tower of MobileCLIP", ("vit_*_mci_*",), {"depth": 2}),  # its stem fixes the width
    Family("FlexiViT", ("flexivit_*",), PLAIN),
    Family("NaFlexViT", ("naflexvit_*",), PLAIN),
    Family("BEiT, BEiTv2", ("beit_*", "beitv2_*"), FIXED),
    Family("BEiT-3", ("beit3_*",), PLAIN),
    Family("EVA, EVA-02", ("eva_*", "eva02_*"), PLAIN),
    Family("SAM encoder", ("samvit_*",), {**PLAIN, "global_attn_indexes": (1, 3)}),
    Family("ViT, rotary positions", ("vit_*_rope_*",), PLAIN),
    Family("ViT, relative positions", ("vit_relpos_*", "vit_srelpos_*", "test_vit_relpos"), FIXED),
    # not vit_*_resnet*: loading those, timm fetches their stem's own weights from the hub
    Family("ViT on a CNN stem", ("vit_tiny_r_s16*", "vit_small_r26*"), PLAIN),
    Family("AIMv2, RADIO", ("aimv2_*", "vit_*radio*"), PLAIN),
    Family("ViT: plain, without stem", ("vit_*patch*", "test_vit*"), PLAIN),
    Family("XCiT", ("xcit_*p[18]*_224",), {**PLAIN, "depth": 3}),
    Family("CaiT", ("cait_*",), FIXED),
    Family("Swin, Swin V2", ("swin_*", "swinv2_[tsbl]*"), SWIN),
    Family("Hiera", ("hiera_*",), {**HIERA, "img_size": 64}),
    Family("Hiera of SAM 2", ("sam2_hiera_*", "hieradet_*"), {**HIERA, "global_att_blocks": (3,)}),
    Family("PVT v2", ("pvt_v2_*",), PYRAMID),
    Family("Twins", ("twins_*",), PYRAMID),
    Family("DaViT", ("davit_tiny", "davit_small", "davit_base"), PYRAMID),
    Family("ConvNeXt, V2", ("convnext*",), {"depths": (1, 1, 2, 1), "dims": (24, 48, 48, 96)}),
    Family(
        "ResNet, Wide ResNet",
        ("resnet1*", "resnet26*", "resnet34", "resnet50", "resnet50[dts]", "wide_resnet*"),
        {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 48)},
    ),
    Family("DenseNet", ("densenet121", "densenet169"), {"block_config": (2, 2, 2, 2), "growth_rate": 8}),
    Family("Other small networks", ("regnetx_002", "edgenext_xx_small", "mobilenetv3_small_050", "test_efficientnet*")),
    Family("Not on one grid", ("crossvit_tiny_240", "levit_128s", "pit_ti_224", "nasnetalarge")),
)

# Weights of these releases are tags of names above: `vit_small_patch16_224.dino`. They get lines of their own.
RELEASES = {
    "released as DINO": "vit_*.dino",
    "released as MAE": "vit_*.mae",
    "released as I-JEPA": "vit_*ijepa*",
    "released as AugReg": "vit_*.augreg*",
}


def family_of(name: str) -> Family | None:
    """Find the family a timm name counts for, if any."""
    return next((f for f in FAMILIES if any(fnmatch.fnmatch(name, pattern) for pattern in f.patterns)), None)


def release_names(pattern: str) -> set[str]:
    """List the architectures among timm's weights `<architecture>.<tag>` that fit a pattern."""
    return {name.partition(".")[0] for name in timm.list_models(pattern, pretrained=True)}


def names_in_turns() -> list[str]:
    """All names, one of each family, then the next of each: a run that is cut short has seen every family."""
    columns: dict[str, list[str]] = {family.title: [] for family in FAMILIES}
    for name in timm.list_models():
        family = family_of(name)
        if family is not None:
            columns[family.title].append(name)
    return [name for turn in itertools.zip_longest(*columns.values()) for name in turn if name is not None]
