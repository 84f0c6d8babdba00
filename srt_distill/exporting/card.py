"""The model card of an export: what the model is, where it came from, and what was measured.

Shape legend: none.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from srt_distill.exporting.parity import Parity
from srt_distill.exporting.provenance import Source, describe_license, without_paths
from srt_distill.exporting.verification import Proof
from srt_distill.runs import RELATIONS_CLOSED

GAP = "val/gap_closed"
PREFIX_FACET = ":prefix"  # layers of class and register tokens; all others are dense


@dataclass(frozen=True)
class Card:
    """What a model card says, as plain values.

    Attributes:
        name: Of the exported folder.
        architecture: timm's name.
        patch_size: Image sides are multiples of this many pixels.
        fixed_size: (height, width) in pixels if no other is taken.
        teacher: Where the weights came from.
        origin: Of a later round, where the first round's teacher came from.
        teacher_hash: Fingerprint of the teacher's weights.
        license: The teacher's, as timm names it; None where unknown.
        datasets: Repositories of the images, where they have any.
        layers: Specs of the layers that were trained.
        num_shifts: Of the target.
        interpolation: How tokens filled their pixels in the target.
        readout: How the student's maps were read in the loss and in what was measured.
        alpha: How far the weights go from the teacher's (0) to those that were trained (1).
        settings: All settings of the run.
        scores: What was measured while training, by name.
        parity: Cost of student and teacher.
        proofs: One per format.
    """

    name: str
    architecture: str
    patch_size: int
    fixed_size: tuple[int, int] | None
    teacher: Source
    origin: Source | None
    teacher_hash: str
    license: str | None
    datasets: Sequence[str]
    layers: Sequence[int | str]
    num_shifts: int
    interpolation: str
    readout: str
    alpha: float
    settings: Mapping[str, Any]
    scores: Mapping[str, float]
    parity: Parity
    proofs: Sequence[Proof]


def write_card(folder: Path, card: Card) -> None:
    """Write README.md into an exported folder, in the form that the Hugging Face hub reads.

    Args:
        folder: The exported folder.
        card: What it says.
    """
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(card.scores.items()))
    settings = yaml.safe_dump(without_paths(card.settings), sort_keys=True)
    smoothed = "" if card.interpolation == "nearest" else f", of features smoothed by {card.interpolation} sampling"
    (folder / "README.md").write_text(f"""---
{yaml.safe_dump(describe_header(card), sort_keys=False)}---

# {card.architecture}, adapted by SRT self-distillation

The same architecture, keys and cost as its teacher, with dense features adapted to unlabeled images: one pass was
trained to give what the frozen teacher gives on average over {card.num_shifts} sub-patch
shifts{smoothed} (Stochastic Resonance Transformer, Lao et al., ICML 2024, Eq. 6). No labels were used.

{describe_outcome(card.scores, card.layers) if card.alpha == 1 else describe_alpha(card.alpha)}

```python
import timm

model = timm.create_model("local-dir:{card.name}", pretrained=True)
```

{describe_teachers(card.teacher, card.teacher_hash, card.origin)}
- Parameters: {card.parity.num_parameters:,}, as the teacher
- A classifier head, if there is one, is the teacher's, unchanged
- {describe_sizes(card.patch_size, card.fixed_size)}{describe_readout(card.readout)}

## Scores when training ended

| score | value |
|---|---|
{scores or "| none | |"}

`{GAP}` is measured on held-out unlabeled images, over dense layers: 0 = the teacher's single pass, 1 = its SRT in one
pass; `{GAP}_origin` is the same for the first round's teacher, where there were several rounds. `val/weight_drift`
is the relative distance of the weights from the first teacher's.

## Proof of equality

Each format was loaded in a fresh interpreter, without the package that trained it, and given the same images:

{describe_proofs(card.proofs, card.name)}

## Proof of zero cost

{describe_parity(card.parity)}

## Settings

Paths are cut to the names of files and folders.

```yaml
{settings}```
""")


def describe_header(card: Card) -> dict[str, Any]:
    """Make the metadata of a card, as the hub reads them; what is not known is left out.

    Args:
        card: What the card says.

    Returns:
        Fields for the YAML block at the top.
    """
    base = card.origin or card.teacher
    header: dict[str, Any] = {"library_name": "timm", "pipeline_tag": "image-feature-extraction"}
    header |= describe_license(card.license)
    if base.repository is not None:
        header |= {"base_model": base.repository, "base_model_relation": "finetune"}
    if card.datasets:
        header["datasets"] = list(card.datasets)
    header["tags"] = ["timm", "image-feature-extraction", "srt-distill", "stochastic-resonance"]
    if results := index_results(card.scores):
        header["model-index"] = [{"name": card.name, "results": results}]
    return header


def index_results(scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """Make the results of a hub's model-index of scores: one per data set, which a score's name begins with.

    Args:
        scores: By names such as `val/gap_closed`; values that are no finite numbers are left out.

    Returns:
        Results with task, dataset and metrics.
    """
    by_dataset: dict[str, list[dict[str, Any]]] = {}
    for name, value in sorted(scores.items()):
        dataset, _, metric = name.rpartition("/")
        if math.isfinite(value):
            by_dataset.setdefault(dataset, []).append({"type": metric, "name": metric, "value": round(value, 6)})
    titles = {"val": ("held-out images of the training data", "held-out")}
    return [
        {
            "task": {"type": "image-feature-extraction"},
            "dataset": {
                "name": titles.get(dataset, (dataset, dataset))[0],
                "type": titles.get(dataset, (dataset, dataset))[1],
            },
            "metrics": metrics,
        }
        for dataset, metrics in by_dataset.items()
    ]


def describe_outcome(scores: Mapping[str, float], layers: Sequence[int | str]) -> str:
    """Say whether training helped: the gap that dense layers closed, then every other layer in its own line.

    Args:
        scores: By name; `val/gap_closed`, and `val/gap_closed_layer_<spec>` where there are several layers.
        layers: Specs of the layers that were trained.

    Returns:
        Markdown.
    """
    by_layer = {str(layer): scores.get(f"{GAP}_layer_{layer}") for layer in layers}
    if len(by_layer) == 1:
        by_layer = {layer: scores.get(GAP) for layer in by_layer}
    dense = [gap for layer, gap in by_layer.items() if not layer.endswith(PREFIX_FACET)]
    known = [gap for gap in dense if gap is not None]
    gap = sum(known) / len(known) if known else scores.get(GAP) if dense else None
    relations = scores.get(RELATIONS_CLOSED)
    if relations is not None and math.isfinite(relations):
        verdict = "Training did not help there." if relations <= 0 else "That is what was taught."
        lines = [
            f"**On held-out images {relations:.3f} of the distance between the teacher's relations of tokens and those "
            f"under SRT is closed. {verdict}**"
        ]
        lines += [] if gap is None else [f"Of the values of dense features, {gap:.3f} of the gap is closed."]
    elif gap is None and not scores:
        lines = ["**Nothing was measured while this student was trained: whether it is better is not known.**"]
    elif gap is None or not math.isfinite(gap):
        lines = ["**How much of the gap to SRT its dense features close was not measured.**"]
    elif gap <= 0:
        lines = [
            f"**On held-out images its dense features are no nearer to the target than its teacher's: gap closed "
            f"{gap:.3f}. Training did not help there.**"
        ]
    else:
        lines = [f"**On held-out images its dense features close {gap:.3f} of the gap between the teacher and SRT.**"]
    others = {layer: value for layer, value in by_layer.items() if layer.endswith(PREFIX_FACET) and value is not None}
    for layer, value in others.items():
        worse = ", further from the target than the teacher" if value < 0 else ""
        lines.append(f"Layer {layer} (class and register tokens): gap closed {value:.3f}{worse}.")
    return "\n\n".join(lines)


def describe_alpha(alpha: float) -> str:
    """Say that weights lie between the teacher's and the student's, and that no score was measured there."""
    return (
        f"**Its weights lie {alpha:g} of the way from the teacher's to those that were trained (WiSE-FT, Wortsman et "
        "al., CVPR 2022). Scores were measured of the latter while they were trained, and are not stated here.**"
    )


def describe_teachers(teacher: Source, teacher_hash: str, origin: Source | None) -> str:
    """Make list items that name the teacher and, of a later round, the first round's, which scores are relative to.

    Args:
        teacher: Where the weights came from.
        teacher_hash: Fingerprint of these.
        origin: Where the first round's teacher came from.
    """
    items = [f"- Teacher: {teacher.title} (weights SHA-256 {teacher_hash[:16]})"]
    if origin is not None:
        items.append(
            f"- A later round: this teacher is the student of the round before; the first teacher was {origin.title}"
        )
    return "\n".join(items)


def describe_sizes(patch_size: int, fixed_size: tuple[int, int] | None) -> str:
    """Say which images the model takes, and what becomes of others.

    Args:
        patch_size: Multiple of pixels.
        fixed_size: The one size, if others are refused.
    """
    if fixed_size is not None:
        return f"Images: {fixed_size[0]}x{fixed_size[1]} pixels only, in every format"
    return (
        f"Images: height and width must be multiples of {patch_size} pixels, in every format. Of other sizes an ONNX "
        "file silently drops the incomplete patches at the right and at the bottom: resize or crop first"
    )


def describe_readout(readout: str) -> str:
    """Make a list item on how the maps must be read, where that is not as they are."""
    if readout == "none":
        return ""
    how, function = {
        "bilinear": ("bilinear smoothing of its maps", "InterpolatedFeatures"),
        "pyramid": (
            "a pyramid, each token beside the mean of its neighbourhood, twice the channels",
            "PyramidFeatures",
        ),
    }[readout]
    return (
        f"\n- Readout: this student was measured through {how}, which costs no further pass "
        f"(`srt_distill.ensemble.baselines.{function}`); read its maps so to get what was measured"
    )


def describe_proofs(proofs: Sequence[Proof], name: str) -> str:
    """Make a Markdown table of the formats and how far each is from the student.

    Args:
        proofs: One per format.
        name: The folder, as a user would type it.
    """
    rows = ["| format | load it | image | max. difference |", "|---|---|---|---|"]
    for proof in proofs:
        for index, (size, difference) in enumerate(proof.differences.items()):
            first = f"{proof.format} | `{proof.loading.replace('FOLDER', name)}`" if index == 0 else " | "
            rows.append(f"| {first} | {size} | {difference:g} |")
    remarks = [f"{proof.format}: {proof.remark}" for proof in proofs if proof.remark]
    return "\n\n".join(["\n".join(rows), *remarks])


def describe_parity(parity: Parity) -> str:
    """Make a Markdown table of what student and teacher cost."""
    height, width = parity.image_size
    latency = parity.latency
    return f"""| | student | teacher |
|---|---|---|
| tensors, by name and shape | {parity.keys_and_shapes} | the same |
| parameters | {parity.num_parameters:,} | {parity.num_parameters:,} |
| operations of a pass at {height}x{width} | {parity.student_flops:,} | {parity.teacher_flops:,} |
| seconds of a pass, median | {latency.seconds:.4f} | {latency.reference_seconds:.4f} |

Latency of student over teacher, {latency.num_pairs} passes of each in turns: {latency.ratio:.3f} (median; \
{latency.ratio_low:.3f} to {latency.ratio_high:.3f} with probability {latency.coverage:.2f}), {parity.verdict}."""
