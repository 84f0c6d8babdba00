"""The student out: the same model in the formats others load, each proven equal before it is called done."""

from srt_distill.exporting.timm_folder import Export, export_timm

__all__ = ["Export", "export_timm"]
