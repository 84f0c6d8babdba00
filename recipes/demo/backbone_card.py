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
from srt_distill.tasks.davis.evaluation import DAVIS_MEAN, DAVIS_STD
from torch import nn

from srt_distill import FeatureExtractor, StochasticResonance, evaluate_davis
from srt_distill.backbone import describe_backbone, hash_weights

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
    rows = {name: (model, 0) for name, model in models.items()}
    last = list(models)[-1]
    rows[f"{last}, SRT d={SHIFT_RADIUS}"] = (models[last], SHIFT_RADIUS)
    scores = {}
    with TemporaryDirectory() as folder:
        for name, (model, radius) in rows.items():
            scores[name] = evaluate_davis(
                StochasticResonance(FeatureExtractor(model.eval()), radius),
                videos,
                Path(folder) / str(len(scores)),
                mean=DAVIS_MEAN,
                std=DAVIS_STD,
                fingerprint={"weights": hash_weights(model), "shift_radius": radius},
                patch=describe_backbone(model).patch_size,
                scale=SCALE,
                device=torch.device("cpu"),
            ).scores
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
