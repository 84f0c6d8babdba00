"""`srt-distill export`: the student out of a run, as a timm folder.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import auto_cli

from srt_distill.exporting import export_timm
from srt_distill.runs import load_run


def export(checkpoint: Path, output: Path) -> None:
    """Write the adapted backbone of a run as a timm folder, proven equal to the student.

    The folder holds config.json, model.safetensors and a model card. Load it anywhere, without this package:
    timm.create_model("local-dir:<output>", pretrained=True). It is reloaded in a fresh interpreter and compared with
    the student before the command reports success; an older export is replaced only then.

    Args:
        checkpoint: A run folder that `srt-distill fit` wrote, or one of its .ckpt files.
        output: Folder to write.
    """
    done = export_timm(load_run(checkpoint), output)
    print(f"Exported {done.architecture} ({done.num_parameters:,} parameters, keys as the teacher's) to {done.folder}")
    for size, difference in done.max_difference.items():
        print(f"  reloaded by timm alone, {size}: max difference {difference:g}")
    print(f'load it:  timm.create_model("local-dir:{done.folder}", pretrained=True)')


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and export."""
    auto_cli(export, args=list(arguments), as_positional=False, prog="srt-distill export")
