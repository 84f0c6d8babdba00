"""The student out: the same model in the formats others load, each proven equal before it is called done."""

from srt_distill.exporting.hub import push_folder, require_hub
from srt_distill.exporting.student import Export, Format, export_student

__all__ = ["Export", "Format", "export_student", "push_folder", "require_hub"]
