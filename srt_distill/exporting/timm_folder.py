"""Export as a timm folder.

Shape legend: none, the comparison is in `verification`.
"""

from pathlib import Path

from srt_distill.backbone import save_backbone
from srt_distill.exporting.verification import SCRIPTS, Expectation, Proof, require_equal, run_apart


def write_timm(expected: Expectation, folder: Path) -> Proof:
    """Write config.json and model.safetensors for `timm.create_model("local-dir:<folder>", pretrained=True)`.

    Args:
        expected: The student and its features.
        folder: Where to write.

    Returns:
        The proof that timm alone computes the same, to the bit.

    Raises:
        RuntimeError: If it does not.
    """
    save_backbone(expected.model, folder)
    outputs = run_apart(SCRIPTS / "plain_timm.py", [str(folder.resolve())], expected.images)
    return Proof(
        format="timm",
        file=".",
        loading='timm.create_model("local-dir:FOLDER", pretrained=True)',
        bar=0.0,
        differences=require_equal("a timm folder", outputs, expected.features, bar=0.0),
    )
