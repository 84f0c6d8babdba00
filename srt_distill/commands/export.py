"""`srt-distill export`: the student out of a run, as a timm folder and in other formats.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import auto_cli

from srt_distill.exporting import Format, export_student


def export(
    checkpoint: Path,
    output: Path,
    formats: list[Format] | None = None,
    alpha: float = 1.0,
    push_to_hub: str | None = None,
    private: bool = False,
) -> None:
    """Write the adapted backbone of a run as a timm folder, and in other formats, each proven equal to the student.

    The folder holds config.json, model.safetensors, a model card and parity.json. Load it anywhere, without this
    package: timm.create_model("local-dir:<output>", pretrained=True). Every format is loaded in a fresh interpreter
    and compared with the student at three image sizes before the command reports success; an older export is replaced
    only then.

    Args:
        checkpoint: A run folder that `srt-distill fit` wrote, or one of its .ckpt files.
        output: Folder to write: absent, empty, or an older export that holds nothing else.
        formats: More formats beside the timm folder, for example '[onnx, transformers]'. transformers: the folder loads
            with AutoModel, and so does its subfolder transformers/, natively, for ViT, DeiT, DINO and DINOv2. onnx:
            model.onnx, any number of images of any size. torch_export: model.pt2, the same for torch alone. release:
            release.pth, in the layout of DINO's, MAE's, DeiT's or DINOv2's own code.
        alpha: How far the weights go from the teacher's (0) to the student's (1), as in WiSE-FT. Halfway, a classifier
            that came with the weights keeps more of its answers, and features less of the gain.
        push_to_hub: Repository on the Hugging Face hub, owner/name, that gets the folder once everything is proven.
        private: Make that repository private.
    """
    wanted = formats or ()
    done = export_student(
        checkpoint, output, wanted, alpha=alpha, push_to_hub=push_to_hub, private=private, progress=True
    )
    print(f"Exported {done.architecture} to {done.folder}")
    for proof in done.proofs:
        for size, difference in proof.differences.items():
            print(f"  {proof.format}, reloaded apart, {size}: max difference {difference:g} (at most {proof.bar:g})")
        if proof.remark:
            print(f"    {proof.remark}")
        print(f"    load it:  {proof.loading.replace('FOLDER', str(done.folder))}")
    parity, latency = done.parity, done.parity.latency
    print(
        f"  {parity.keys_and_shapes} tensors of the teacher's names and shapes, {parity.num_parameters:,} "
        f"parameters, {parity.student_flops:,} operations a pass (teacher {parity.teacher_flops:,})"
    )
    print(
        f"  latency student/teacher {latency.ratio:.3f} ({latency.ratio_low:.3f} to {latency.ratio_high:.3f}, "
        f"{latency.num_pairs} pairs): {parity.verdict}"
    )
    if done.address is not None:
        print(f"Pushed to {done.address}")


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and export."""
    auto_cli(export, args=list(arguments), as_positional=False, prog="srt-distill export")
