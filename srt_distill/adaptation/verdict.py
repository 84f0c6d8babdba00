"""Whether an adaptation helped, in a sentence that claims no more than was measured.

Shape legend: none.
"""

from dataclasses import dataclass

from srt_distill.comparison import STUDENT, Comparison


@dataclass(frozen=True)
class Verdict:
    """What was measured of the exported student.

    Attributes:
        gap_closed: Share of the squared distance from the original's single pass to its SRT that the student has
            closed on held-out images; None where none were held out.
        num_held_out: Images that it was measured on.
        smoothing: How much of that distance bilinear smoothing of the original's maps closes, which is free too; None
            where its maps are read smoothed to begin with, as the student's are.
        relations_closed: The same share of the distance of relations between tokens, where the recipe teaches these;
            then it decides, as values are not what was taught.
        comparison: Scores on labelled tasks, where some were given.
    """

    gap_closed: float | None
    num_held_out: int
    smoothing: float | None
    relations_closed: float | None = None
    comparison: Comparison | None = None

    @property
    def sentence(self) -> str:
        """Say whether it helped: by labels where there are some, else by held-out images."""
        labelled = self.task_sentences
        return " ".join([*labelled, self.label_free]) if labelled else self.label_free

    @property
    def label_free(self) -> str:
        """Say what held-out images tell."""
        if self.gap_closed is None:
            return "Not known: too few images to hold any out, so that nothing was measured."
        images = f"{self.num_held_out} held-out image{'s' * (self.num_held_out != 1)}"
        if self.relations_closed is not None:
            gained = self.relations_closed > 0
            way = "nearer to" if gained else "further from"
            return (
                f"{'By its features, yes' if gained else 'No'}: on {images} the relations between tokens, which the "
                f"recipe teaches, are {abs(self.relations_closed):.0%} {way} SRT's "
                f"than the original's are (of values the gap closed is {self.gap_closed:.2f}, 0 is the original); "
                + ("whether a task gains, only labels tell." if gained else "keep the original.")
            )
        if self.gap_closed <= 0:
            return (
                f"No: on {images} the student is no nearer to SRT than the original is (gap closed "
                f"{self.gap_closed:.2f}, 0 is the original); keep the original."
            )
        end = "." if self.comparison else "; whether a task gains, only labels tell."
        start = (
            "one pass of the original" if self.smoothing is not None else "one pass of the original, smoothed as well,"
        )
        smoothing = "" if self.smoothing is None else f" (smoothing, free too, closes {max(self.smoothing, 0.0):.0%})"
        return (
            f"By its features, yes: on {images} one pass of the student closes {self.gap_closed:.0%} of the squared "
            f"distance from {start} to its SRT{smoothing}{end}"
        )

    @property
    def task_sentences(self) -> list[str]:
        """Say what the student gains on each labelled task."""
        if self.comparison is None:
            return []
        said = [(result, self.comparison.verdicts(result)) for result in self.comparison.tasks]
        return [
            f"{result.info.title}: {verdict}"
            for result, verdicts in said
            for verdict in verdicts
            if verdict.startswith(f"{STUDENT} ")
        ]
