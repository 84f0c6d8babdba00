"""The model card of an export: what the model is, where it came from, and what was measured.

Shape legend: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from srt_distill.exporting.parity import Parity
from srt_distill.exporting.verification import Proof
from srt_distill.runs import Run

if TYPE_CHECKING:
    from srt_distill.exporting.student import Export


def write_card(folder: Path, run: Run, export: Export) -> None:
    """Write README.md into an exported folder, in the form that the Hugging Face hub reads.

    Args:
        folder: The exported folder.
        run: The run it came from.
        export: What was proven of it.
    """
    header = {
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["timm", "image-feature-extraction", "srt-distill", "stochastic-resonance"],
    }
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(run.scores.items()))
    settings = yaml.safe_dump({"model": run.settings, "data": run.data_settings, "steps": run.step}, sort_keys=True)
    name = export.folder.name
    smoothing = run.settings.get("interpolation", "nearest")  # runs of before it was a setting lack it
    smoothed = "" if smoothing == "nearest" else f", of features smoothed by {smoothing} interpolation"
    (folder / "README.md").write_text(f"""---
{yaml.safe_dump(header, sort_keys=False)}---

# {export.architecture}, adapted by SRT self-distillation

The same architecture, keys and cost as its teacher, with dense features adapted to unlabeled images: one pass was
trained to give what the frozen teacher gives on average over {(2 * run.settings["shift_radius"] + 1) ** 2} sub-patch
shifts{smoothed} (Stochastic Resonance Transformer, Lao et al., ICML 2024, Eq. 6). No labels were used.

```python
import timm

model = timm.create_model("local-dir:{name}", pretrained=True)
```

{describe_teachers(run, export.teacher_hash)}
- Parameters: {export.parity.num_parameters:,}, as the teacher
- A classifier head, if there is one, is the teacher's, unchanged

## Scores when training ended

| score | value |
|---|---|
{scores or "| none held out | |"}

`val/gap_closed` is measured on held-out unlabeled images: 0 = the teacher's single pass, 1 = its SRT in one pass;
`val/gap_closed_origin` is the same for the first round's teacher, where there were several rounds. `val/weight_drift`
is the relative distance of the weights from the first teacher's.

## Proof of equality

Each format was loaded in a fresh interpreter, without the package that trained it, and given the same images:

{describe_proofs(export.proofs, name)}

## Proof of zero cost

{describe_parity(export.parity)}

## Settings

```yaml
{settings}```
""")


def describe_teachers(run: Run, teacher_hash: str) -> str:
    """List items that name the teacher and, of a later round, the first round's, which scores are relative to.

    Args:
        run: The run.
        teacher_hash: Fingerprint of its teacher's weights.
    """
    named = []
    for source, weights in (("backbone", "weights"), ("origin", "origin_weights")):
        file = run.settings.get(weights)
        named.append(f"{run.settings.get(source)}" + (f" with {Path(file).name}" if file else ""))
    items = [f"- Teacher: {named[0]} (weights SHA-256 {teacher_hash[:16]})"]
    if run.settings.get("origin"):
        items.append(
            f"- A later round: this teacher is the student of the round before; the first teacher was {named[1]}"
        )
    return "\n".join(items)


def describe_proofs(proofs: Sequence[Proof], name: str) -> str:
    """A Markdown table of the formats and how far each is from the student.

    Args:
        proofs: One a format.
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
    """A Markdown table of what student and teacher cost."""
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
