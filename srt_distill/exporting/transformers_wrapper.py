"""The timm folder in Transformers, whose timm wrapper loads it as it is.

Shape legend: none, the comparison is in `verification`.
"""

from pathlib import Path

from srt_distill.exporting.verification import SCRIPTS, Expectation, Proof, require_equal, run_apart

TRANSFORMERS_MODULES = ("transformers",)


def prove_transformers(expected: Expectation, folder: Path) -> Proof:
    """Load a timm folder with `AutoModel`; there is nothing to write.

    Args:
        expected: The student and its features.
        folder: The timm folder.

    Returns:
        The proof that Transformers computes the same, to the bit.

    Raises:
        RuntimeError: If it does not.
    """
    outputs = run_apart(SCRIPTS / "plain_transformers.py", [str(folder.resolve())], expected.images)
    return Proof(
        format="Transformers, timm wrapper",
        file=".",
        loading='transformers.AutoModel.from_pretrained("FOLDER")',
        bar=0.0,
        differences=require_equal("a folder for Transformers", outputs, expected.features, bar=0.0),
        remark="tokens are in last_hidden_state; call it with do_pooling=False where no pooled output is needed",
    )
