"""Pictures of features and masks: PCA colours, noise maps, overlays, and the figures of `srt-distill visualize`."""

from srt_distill.visualization.figures import fit_projections, noise_figure, pca_figure, resizing_figure
from srt_distill.visualization.gallery import Column, visualize
from srt_distill.visualization.noise import heat_map, heat_range, noise_map
from srt_distill.visualization.overlays import overlay_mask
from srt_distill.visualization.panels import contact_sheet, panel_grid
from srt_distill.visualization.projection import Projection, pca_projection, pca_rgb
from srt_distill.visualization.propagation import visualize_propagation
from srt_distill.visualization.writers import write_gif, write_mp4, write_picture

__all__ = [
    "Column",
    "Projection",
    "contact_sheet",
    "fit_projections",
    "heat_map",
    "heat_range",
    "noise_figure",
    "noise_map",
    "overlay_mask",
    "panel_grid",
    "pca_figure",
    "pca_projection",
    "pca_rgb",
    "resizing_figure",
    "visualize",
    "visualize_propagation",
    "write_gif",
    "write_mp4",
    "write_picture",
]
