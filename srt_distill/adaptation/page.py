"""The report of an adaptation: verdict, features before and after, label-free scores, what was chosen.

Shape legend: B images, C channels, H W pixels, h w tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.loaders import ChoiceLoader

from srt_distill.adaptation.plan import Plan, measured_batches
from srt_distill.adaptation.verdict import Verdict
from srt_distill.backbone import backbone_normalization
from srt_distill.comparison.report.sheets import photo_uri, tokens_uri
from srt_distill.data import UnlabeledImages
from srt_distill.runs import Run
from srt_distill.training.held_out_scores import crop_margin, dense_layers
from srt_distill.training.reading import FeatureReading
from srt_distill.visualization import pca_rgb
from srt_distill.visualization.panels import Picture, to_picture

COLUMNS = ("original", "original under SRT", "student")

SCORES = {
    "equivariance error": (
        "equivariance_error",
        "what moves where the image moves by less than a patch; lower is better",
    ),
    "effective rank": ("effective_rank", "directions that tokens fill; a fall says that too much was smoothed"),
    "variance": ("feature_variance", "of tokens; a fall says the same"),
}
"""Label-free scores before and after: title, name in the log, meaning."""


@dataclass(frozen=True)
class BeforeAfter:
    """One image and its features, coloured by one projection.

    Attributes:
        photo: The image.
        features: One pixel per token, in the order of `COLUMNS`.
    """

    photo: Picture
    features: Sequence[Picture]


def draw_pictures(
    reading: FeatureReading, run: Run, data: UnlabeledImages, device: torch.device, num_images: int = 4
) -> list[BeforeAfter]:
    """Draw a student's features beside those of its teacher on held-out images, or on others where none are held out.

    Args:
        reading: Which features, and how.
        run: Student and teacher.
        data: Crops with their margin.
        device: What computes.
        num_images: How many are drawn, at most.
    """
    data.setup("fit")
    student, teacher = reading.student(run.student.to(device)), reading.teacher(run.teacher.to(device))
    normalize, layer = backbone_normalization(run.teacher), dense_layers(reading.layers)[-1]
    pictures: list[BeforeAfter] = []
    for batch in measured_batches(data):
        for crop in batch.split(1):
            images = normalize(crop.to(device))
            inner = crop_margin(images, reading.srt.margin)
            with torch.inference_mode():
                maps = teacher.single(inner)[layer], teacher.srt(images)[layer], student(inner)[layer]
                colors = pca_rgb([found[0].float().cpu() for found in maps])
            photo = crop_margin(crop.float(), reading.srt.margin)[0].permute(1, 2, 0).byte().numpy()
            pictures.append(BeforeAfter(photo, [to_picture(color) for color in colors]))
            if len(pictures) == num_images:
                return pictures
    return pictures


def render_page(
    plan: Plan, verdict: Verdict, run: Run, pictures: Sequence[BeforeAfter], usage: str, comparison: str | None
) -> str:
    """Fill the template.

    Args:
        plan: What was chosen.
        verdict: Whether it helped.
        run: Its held-out scores.
        pictures: Of some images.
        usage: The line that loads the model.
        comparison: Where the page on labelled tasks is, from this page; None without any.

    Returns:
        The page, pictures included.
    """
    loaders = [PackageLoader("srt_distill.adaptation", "."), PackageLoader("srt_distill.comparison.report", ".")]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("adaptation.html.j2").render(
        plan=plan,
        verdict=verdict,
        steps=run.step,
        pictures=pictures,
        columns=COLUMNS,
        scores=label_free_rows(run.scores),
        usage=usage,
        comparison=comparison,
        photo=photo_uri,
        tokens=tokens_uri,
    )


def label_free_rows(scores: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """Write rows of title, original, student and meaning, for what was measured."""
    rows = []
    for title, (name, meaning) in SCORES.items():
        values = [scores.get(f"val/{name}_{role}") for role in ("teacher", "student")]
        if None not in values:
            rows.append((title, *(f"{value:.3g}" for value in values), meaning))
    return rows
