"""From feature maps of one image to the paper's figures.

Shape legend: C channels, H W pixels, h w tokens (or pixels, where an extractor is that fine). A map is (1, C, h, w); a
picture is an RGB array of bytes (H, W, 3). Every figure has one row a layer, and each row its own projection or scale,
shared by all columns.
"""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from srt_distill.ensemble import confidence
from srt_distill.visualization.noise import heat_map, heat_range, noise_map, resizing_noise_map
from srt_distill.visualization.panels import Picture, panel_grid, resize_picture, to_picture
from srt_distill.visualization.projection import Projection, pca_projection

Maps = tuple[Tensor, ...]
"""Feature maps (1, C, h, w) of one image, one a layer."""


def pca_figure(
    picture: Picture,
    maps: Mapping[str, Maps],
    layer_names: Sequence[str],
    projections: Sequence[Projection] | None = None,
    image_name: str = "image",
) -> Picture:
    """Draw the image and each extractor's features as colours (paper, Figs. 2 and 6).

    Args:
        picture: the image.
        maps: by the caption above the column.
        layer_names: captions before the rows.
        projections: one a layer, to show several images alike; by default fitted on these maps.
        image_name: caption above the image.

    Returns:
        One picture.
    """
    projections = projections or fit_projections([maps])
    rows = [
        [picture, *(_colors(projection, layer, picture) for layer in layers)]
        for projection, layers in zip(projections, zip(*maps.values(), strict=True), strict=True)
    ]
    return panel_grid(rows, [image_name, *maps], _row_names(layer_names))


def fit_projections(images: Sequence[Mapping[str, Maps]]) -> list[Projection]:
    """One projection a layer over all images and extractors.

    Args:
        images: each image's maps by extractor.

    Returns:
        The projections in the order of the layers.
    """
    layers = zip(*(maps for image in images for maps in image.values()), strict=True)
    return [pca_projection([features[0] for features in layer]) for layer in layers]


def noise_figure(
    picture: Picture, single: Maps, ensemble: Maps, name: str, layer_names: Sequence[str], image_name: str = "image"
) -> Picture:
    """Where the single pass differs from the ensemble, beside what mere resizing changes (paper, Fig. 4).

    Args:
        picture: the image.
        single: features of the single pass.
        ensemble: features taken for the signal; where no finer than the single pass, there is no resizing to show.
        name: caption of the ensemble.
        layer_names: captions before the rows.
        image_name: caption above the image.

    Returns:
        One picture; the heat maps of a row share their scale.
    """
    finer = single[0].shape != ensemble[0].shape
    columns = [image_name, f"‖{name} - single pass‖", *["‖resized - single pass‖"] * finer]
    rows = []
    for coarse, fine in zip(single, ensemble, strict=True):
        heats = [noise_map(fine, coarse)[0]]
        if finer:
            heats.append(resizing_noise_map(coarse, *fine.shape[-2:])[0])
        high = heat_range(heats)
        rows.append([picture, *(_to_size(heat_map(heat, high), picture) for heat in heats)])
    return panel_grid(rows, columns, _row_names(layer_names))


def confidence_figure(
    picture: Picture, variances: Maps, layer_names: Sequence[str], image_name: str = "image"
) -> Picture:
    """Draw how far each token is to be trusted: bright where it is the same under all shifts.

    Args:
        picture: the image.
        variances: (1, 1, h, w), one a layer.
        layer_names: captions before the rows.
        image_name: caption above the image.

    Returns:
        One picture, on a scale from 0 to 1; the median token of a row has one half.
    """
    rows = [[picture, _to_size(heat_map(confidence(layer)[0, 0], 1.0), picture)] for layer in variances]
    return panel_grid(rows, [image_name, "confidence (low variance over shifts)"], _row_names(layer_names))


def resizing_figure(
    picture: Picture, single: Maps, ensemble: Maps, name: str, layer_names: Sequence[str], image_name: str = "image"
) -> Picture:
    """Features of a finer ensemble against those of a single pass resized to its grid (paper, Fig. 5).

    Args:
        picture: the image.
        single: features of the single pass.
        ensemble: finer features, such as SRT at pixel resolution.
        name: caption of the ensemble.
        layer_names: captions before the rows.
        image_name: caption above the image.

    Returns:
        One picture; the columns of a row share their projection.
    """
    rows, columns = [], [image_name, "single pass", "single pass, resized", name]
    for coarse, fine in zip(single, ensemble, strict=True):
        projection = pca_projection([coarse[0], fine[0]])
        # interpolating three components equals projecting interpolated features, at 3/C of the memory
        smooth = F.interpolate(projection.unclipped(coarse), fine.shape[-2:], mode="bilinear", align_corners=False)
        cells = [_colors(projection, coarse, picture), _to_size(to_picture(smooth[0]), picture)]
        rows.append([picture, *cells, _colors(projection, fine, picture)])
    return panel_grid(rows, columns, _row_names(layer_names))


def _colors(projection: Projection, features: Float[Tensor, "1 C h w"], picture: Picture) -> Picture:
    return _to_size(to_picture(projection(features[0])), picture)


def _to_size(cell: Picture, picture: Picture) -> Picture:
    """At the size of the image, tokens as sharp blocks."""
    return resize_picture(cell, *picture.shape[:2], blocks=True)


def _row_names(layer_names: Sequence[str]) -> Sequence[str]:
    """Captions before the rows where there is more than one row to tell apart."""
    return layer_names if len(layer_names) > 1 else ()
