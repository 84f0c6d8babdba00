"""The model card of an export: what the model is, where it came from, and what was measured.

Shape legend: none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from srt_distill.runs import Run

if TYPE_CHECKING:
    from srt_distill.exporting.timm_folder import Export


def write_card(folder: Path, run: Run, export: Export) -> None:
    """Write README.md into an exported folder, in the form that the Hugging Face hub reads.

    Args:
        folder: The exported folder.
        run: The run it came from.
        export: What was proven of it.
    """
    teacher = run.settings["backbone"] + (
        f" with {Path(run.settings['weights']).name}" if run.settings["weights"] else ""
    )
    header = {
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["timm", "image-feature-extraction", "srt-distill", "stochastic-resonance"],
    }
    scores = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(run.scores.items()))
    settings = yaml.safe_dump({"model": run.settings, "data": run.data_settings, "steps": run.step}, sort_keys=True)
    sizes = "\n".join(f"| {size} | {difference:g} |" for size, difference in export.max_difference.items())
    (folder / "README.md").write_text(f"""---
{yaml.safe_dump(header, sort_keys=False)}---

# {export.architecture}, adapted by SRT self-distillation

The same architecture, keys and cost as its teacher, with dense features adapted to unlabeled images: one pass was
trained to give what the frozen teacher gives on average over {(2 * run.settings["shift_radius"] + 1) ** 2} sub-patch
shifts (Stochastic Resonance Transformer, Lao et al., ICML 2024, Eq. 6). No labels were used.

```python
import timm

model = timm.create_model("local-dir:{folder_name(export)}", pretrained=True)
```

- Teacher: {teacher} (weights SHA-256 {export.teacher_hash[:16]})
- Parameters: {export.num_parameters:,}, as the teacher
- A classifier head, if there is one, is the teacher's, unchanged

## Scores when training ended

| score | value |
|---|---|
{scores or "| none held out | |"}

`val/gap_closed` is measured on held-out unlabeled images: 0 = the teacher's single pass, 1 = its SRT in one pass.

## Proof of equality

Reloaded by timm in a fresh interpreter; largest difference from the student's tokens:

| image | max. difference |
|---|---|
{sizes}

## Settings

```yaml
{settings}```
""")


def folder_name(export: Export) -> str:
    """Name of the folder, as a user of the card would type it."""
    return Path(export.folder).name
