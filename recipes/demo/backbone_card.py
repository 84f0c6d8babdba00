"""What the demo's backbone scores, and the card that says how it was made.

Shape legend: none, tensors stay inside the extractors.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import yaml
from photos import PHOTOS
from torch import nn

from srt_distill.backbone.options import ExecutionOptions, FeatureOptions
from srt_distill.comparison import evaluate, prepare_model, single_pass, under_srt
from srt_distill.ensemble.options import SRTOptions
from srt_distill.tasks import Davis

SCALE = 0.5  # of the protocol's 480 rows: the demo's videos have 240
SHIFT_RADIUS = 3


def measure(models: Mapping[str, nn.Module], videos: Path) -> dict[str, dict[str, float]]:
    """J and F on the demo's validation videos: every model in one pass, and the last one under SRT too.

    Args:
        models: Backbones by name.
        videos: Folder that `make_demo_videos` wrote.

    Returns:
        The official global scores by name of the row.
    """
    task = Davis(videos, scale=SCALE, normalization="dino")
    cpu = ExecutionOptions(device="cpu")
    opened = {name: prepare_model(model.eval(), FeatureOptions(), cpu) for name, model in models.items()}
    candidates = [single_pass(name, model) for name, model in opened.items()]
    last = list(opened)[-1]
    candidates.append(under_srt(f"{last}, SRT d={SHIFT_RADIUS}", opened[last], SRTOptions(SHIFT_RADIUS)))
    scores = {}
    with TemporaryDirectory() as folder:
        for candidate in candidates:
            found = evaluate(candidate, [task], Path(folder) / str(len(scores)), progress=False)
            scores[candidate.name] = found.tasks[0].rows[0].scores
    return scores


def write_card(
    folder: Path, settings: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]], minutes: float
) -> None:
    """Write README.md: what the backbone is, how it was made, from what, and what it scores.

    Args:
        folder: The timm folder.
        settings: Options of the pre-training.
        scores: What `measure` returned.
        minutes: That composing and training took.
    """
    header = {
        "library_name": "timm",
        "license": "apache-2.0",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["timm", "image-feature-extraction", "self-supervised"],
    }
    options = " ".join(f"--{name} {value}" for name, value in settings.items())
    names = ("J&F-Mean", "J-Mean", "F-Mean")
    rows = "\n".join(
        f"| {name} | " + " | ".join(f"{row[score]:.4f}" for score in names) + " |" for name, row in scores.items()
    )
    photos = "\n".join(f"- {file}" for file in PHOTOS["train"])
    (folder / "README.md").write_text(f"""---
{yaml.safe_dump(header, sort_keys=False)}---

# The demo's backbone: a small ViT pre-trained without labels on a handful of photographs

A plain timm ViT (patch 16, 4 blocks of width 192), trained from scratch for this project's demo. It knows nothing but
the pictures below; use it to try the project out, not as a general backbone.

```python
import timm

model = timm.create_model("local-dir:checkpoints/demo", pretrained=True)
```

## How it was made

```
python recipes/demo/pretrain_backbone.py --output checkpoints/demo {options}
```

Two crops of a picture, each turned, mirrored, scaled and recoloured: tokens that show the same place are pulled
together and pushed away from the other tokens of the batch (InfoNCE). No labels: masks are not used. It took
{minutes:.0f} minutes on {torch.get_num_threads()} CPU threads. Weights are random at the start, seeded.

Pictures are composed (`recipes/demo/scene.py`) from photographs that the scikit-image and scikit-learn wheels install:

{photos}

## Scores

Label propagation on the demo's validation videos (`recipes/demo/make_videos.py`), whose photographs are others:

| features | {" | ".join(names)} |
|---|---|---|---|
{rows}
""")
