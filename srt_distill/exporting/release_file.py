"""Export under the names of the original release, for the scripts that came with it.

Shape legend: none, the comparison is in `verification`.
"""

from pathlib import Path

import torch

from srt_distill.backbone.release_layouts import find_release, to_release_layout
from srt_distill.exporting.verification import SCRIPTS, Expectation, Proof, require_equal, run_apart

RELEASE_FILE = "release.pth"
TITLES = {"dino": "DINO", "mae": "MAE", "deit": "DeiT", "deit3": "DeiT-3", "dinov2": "DINOv2"}


def write_release(expected: Expectation, folder: Path) -> Proof:
    """Write release.pth, and have timm read it with its own translation of such files.

    Args:
        expected: The student and its features.
        folder: The timm folder, where the file goes too.

    Returns:
        The proof that the file holds the student, to the bit; for a DINOv2 with registers to rounding.

    Raises:
        RuntimeError: If it does not.
        ValueError: If the student is of no family with a release layout.
    """
    layout = find_release(expected.model)
    content = to_release_layout(expected.model, layout)
    torch.save(content, folder / RELEASE_FILE)
    state = content.get("model", content)
    num_classes = state["head.weight"].shape[0] if "head.weight" in state else 0
    arguments = [str(folder.resolve()), str((folder / RELEASE_FILE).resolve()), str(num_classes)]
    outputs = run_apart(SCRIPTS / "plain_timm.py", arguments, expected.images)
    where = '["model"]' if "model" in content else ""
    return Proof(
        format=f"{TITLES[layout]} release",
        file=RELEASE_FILE,
        loading=f'model.load_state_dict(torch.load("FOLDER/{RELEASE_FILE}"){where})',
        bar=0.0,
        differences=require_equal("a release file", outputs, expected.features, bar=0.0),
        remark=f"for the models of {TITLES[layout]}'s own code; proven by timm's translation of such files, and that "
        "code resizes position embeddings its own way",
    )
