"""Pictures of a comparison: what tasks draw, features as colours, noise; each small enough to live in the page.

Shape legend: C channels, H W pixels, h w tokens.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from srt_distill.comparison.judging import Judged
from srt_distill.comparison.rows import Comparison, TaskResult
from srt_distill.tasks import Candidate, Item, Sheet, Task
from srt_distill.visualization.noise import heat_map, heat_range, noise_map
from srt_distill.visualization.panels import Picture, resize_picture, to_picture
from srt_distill.visualization.projection import pca_projection

PHOTO_WIDTH = 400  # pixels; twice that of a cell on a telephone
JPEG_QUALITY = 82


@dataclass(frozen=True)
class ItemPictures:
    """What the page shows of one item.

    Attributes:
        name: Of the item.
        gain: Headline of the shown candidate less the reference's.
        sheet: What the task drew.
        size: Height and width of the image whose features are shown, their shape on the page.
        photo: That image.
        features: PCA colours by candidate, one pixel per token; those of equal channels share their projection.
        noise: Distance to the ensemble by candidate, on one scale; empty without an ensemble.
    """

    name: str
    gain: float
    sheet: Sheet
    size: tuple[int, int]
    photo: Picture
    features: dict[str, Picture]
    noise: dict[str, Picture]

    @property
    def columns(self) -> list[str]:
        """Columns of the sheet besides the candidates' own, in order: such as image and ground truth."""
        found = dict.fromkeys(column for _, pictures in self.sheet.rows for column in pictures)
        return [column for column in found if column not in self.features]


def draw_sheets(
    comparison: Comparison,
    result: TaskResult,
    task: Task,
    items: Sequence[Item],
    judged: Mapping[str, Judged],
    candidates: Sequence[Candidate],
    folders: Mapping[str, Path],
    num_pictures: int,
) -> list[ItemPictures]:
    """Draw the items that `choose_items` picks.

    Args:
        comparison: The rows.
        result: Of the task.
        task: Draws.
        items: Of the task.
        judged: Outcomes, by candidate.
        candidates: Their features are shown too.
        folders: Of each candidate on this task.
        num_pictures: Items to draw.

    Returns:
        Their pictures, the largest gain first.
    """
    gains = item_gains(comparison, result)
    by_name = {item.name: item for item in items}
    drawn = []
    for name in choose_items(gains, num_pictures):
        outcomes = {candidate: found.outcomes[name] for candidate, found in judged.items()}
        sheet = task.draw(by_name[name], outcomes, {c: folder / name for c, folder in folders.items()})
        drawn.append(_draw(comparison.ensemble, task, by_name[name], candidates, sheet, gains[name]))
    return drawn


def shown_candidate(comparison: Comparison) -> str:
    """Find the candidate whose gains pick the items: the last single pass but the reference, or else the last one."""
    others = [cost for cost in comparison.costs if cost.name != comparison.reference]
    names = [row.name for row in comparison.tasks[0].rows if row.name != comparison.reference]
    single = [cost.name for cost in others if cost.passes == 1]
    return (single or names or [comparison.reference])[-1]


def item_gains(comparison: Comparison, result: TaskResult) -> dict[str, float]:
    """Subtract the reference's headline from the shown candidate's, by item; undefined ones are left out."""
    score = result.headline.name
    ours, theirs = result.row(shown_candidate(comparison)), result.row(comparison.reference)
    gains = {item: ours.by_item[item][score] - theirs.by_item[item][score] for item in result.items}
    return {item: gain for item, gain in gains.items() if np.isfinite(gain)}


def choose_items(gains: Mapping[str, float], count: int) -> list[str]:
    """Pick items evenly spread from the largest gain to the largest loss, so that pictures flatter nobody.

    Args:
        gains: By item.
        count: How many; all where there are no more.

    Returns:
        Names, the largest gain first.
    """
    ordered = sorted(gains, key=lambda name: (-gains[name], name))
    places = np.unique(np.linspace(0, len(ordered) - 1, min(count, len(ordered)), dtype=int)).tolist() if count else []
    return [ordered[place] for place in places]


def _draw(
    ensemble: str | None, task: Task, item: Item, candidates: Sequence[Candidate], sheet: Sheet, gain: float
) -> ItemPictures:
    views = {candidate.name: task.view(candidate, item) for candidate in candidates}
    maps = {c.name: _own_tokens(c, c.maps(views[c.name])[-1].float().cpu()) for c in candidates}
    noise: dict[str, Tensor] = {}
    if ensemble is not None:
        signal = maps[ensemble]
        noise = {n: noise_map(signal, m)[0] for n, m in maps.items() if n != ensemble and m.shape == signal.shape}
    high = heat_range(list(noise.values()))
    photo = views[candidates[0].name][0].permute(1, 2, 0).cpu().numpy()
    return ItemPictures(
        name=item.name,
        gain=gain,
        sheet=sheet,
        size=(photo.shape[0], photo.shape[1]),
        photo=photo,
        features=_color_features(maps),
        noise={name: heat_map(distance, high) for name, distance in noise.items()},
    )


def _own_tokens(candidate: Candidate, maps: Tensor) -> Tensor:
    """Leave of a pyramid (1, 2C, h, w) the tokens without their surroundings, so that it is drawn beside plain maps."""
    pyramid = "pyramid" in (candidate.fingerprint.get("readout"), candidate.fingerprint.get("baseline"))
    return maps[:, : maps.shape[1] // 2] if pyramid else maps


def _color_features(maps: Mapping[str, Tensor]) -> dict[str, Picture]:
    """Colour maps (1, C, h, w) by PCA; maps with the same number of channels share one projection."""
    with torch.inference_mode():
        projections = {
            width: pca_projection([features for features in maps.values() if features.shape[1] == width])
            for width in {features.shape[1] for features in maps.values()}
        }
        return {name: to_picture(projections[m.shape[1]](m)[0]) for name, m in maps.items()}


def photo_uri(picture: Picture) -> str:
    """Write a photograph as a small JPEG in a data URI."""
    width = min(PHOTO_WIDTH, picture.shape[1])
    small = resize_picture(picture, round(picture.shape[0] * width / picture.shape[1]), width)
    return _data_uri(small, "JPEG", quality=JPEG_QUALITY)


def tokens_uri(picture: Picture) -> str:
    """Write one pixel per token, losslessly, in a data URI; the page enlarges it to sharp blocks."""
    return _data_uri(picture, "PNG", optimize=True)


def _data_uri(picture: Picture, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
