"""Which signal ranks students as a task does: chosen on some students and videos, tested on others, with intervals.

Shape legend: none, arrays are of numpy: S students, V videos.

Rows of the experiment are split by their number, even ones choose and odd ones test, and all seeds of a row lie on one
side; videos are split in the same way, odd ones choose and even ones test. The rule stands here before any student is
trained: of all single signals and all means of the ranks of two, in either direction, the one with the highest Kendall
τ with the mean gain of the choosing students on the choosing videos.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64
from label_free_signals import SIGNALS
from matplotlib.figure import Figure
from scipy.stats import kendalltau, rankdata

from srt_distill.comparison.report.table import markdown_table
from srt_distill.comparison.rows import plain, signed

BAR = 0.6
"""A τ from which a signal is a verdict."""
FEWEST = 2  # students on either side, below which there is nothing to rank

Signals = Mapping[str, Float[np.ndarray, " S"]]
Interval = tuple[float, float, float]
"""A value, and the ends of its 95% interval."""


@dataclass(frozen=True)
class Study:
    """What is known of all students.

    Attributes:
        names: Of the students.
        rows: Number of the row that each belongs to.
        signals: By name, as measured.
        videos: Names of the videos.
        video_gains: (S, V) gains over the teacher.
        other_gains: By task, (S,) gains over the teacher, positive where the student is better.
    """

    names: Sequence[str]
    rows: Sequence[int]
    signals: Signals
    videos: Sequence[str]
    video_gains: Float[np.ndarray, "S V"]
    other_gains: Mapping[str, Float[np.ndarray, " S"]]

    @property
    def tests(self) -> Bool[np.ndarray, " S"]:
        """Which students the choice is tested on."""
        return np.asarray(self.rows) % 2 == 1

    @property
    def test_videos(self) -> Bool[np.ndarray, " V"]:
        """Which videos the choice is tested on."""
        return np.arange(len(self.videos)) % 2 == 0


@dataclass(frozen=True)
class Choice:
    """A signal, or the mean of the ranks of two.

    Attributes:
        parts: Signals, each with 1 where more is better and -1 where less is.
    """

    parts: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """What tables call it."""
        return " + ".join(("" if sign > 0 else "less ") + name for name, sign in self.parts)

    def rank(self, signals: Signals, chosen: Int64[np.ndarray, " students"]) -> Float[np.ndarray, " students"]:
        """Rank the chosen students, the best last."""
        return np.mean([rankdata(sign * signals[name][chosen]) for name, sign in self.parts], axis=0)


def tau(ranks: Float[np.ndarray, " S"], gains: Float[np.ndarray, " S"]) -> float:
    """Kendall's τ-b; not a number where one of them is the same for all."""
    found: Any = kendalltau(ranks, gains) if len(ranks) > 1 else None
    return float("nan") if found is None else float(found.statistic)


def with_dse(signals: Signals) -> dict[str, Float[np.ndarray, " S"]]:
    """Add DSE: separability and dimension, the second scaled to the spread of the first over students."""
    separability, dimension = signals["DSE separability"], signals["DSE dimension"]
    scale = separability.std() / dimension.std() if dimension.std() else 0.0
    return {**signals, "DSE": separability + scale * dimension}


def choose(study: Study) -> Choice:
    """Choose by the rule of this module; of equals the simpler, then the one in the expected directions."""
    students, videos = np.flatnonzero(~study.tests), ~study.test_videos
    gains = study.video_gains[students][:, videos].mean(1)
    expected = {name: SIGNALS[name][1] for name in study.signals}
    candidates = [
        Choice(tuple((name, turn * expected[name]) for name, turn in zip(names, turns, strict=True)))
        for count in (1, 2)
        for turns in product((1, -1), repeat=count)
        for names in combinations(study.signals, count)
    ]
    scored = [(tau(choice.rank(study.signals, students), gains), choice) for choice in candidates]
    known = [pair for pair in scored if np.isfinite(pair[0])]
    if not known:
        raise ValueError("no signal differs between the choosing students, or all gain the same; train more of them")
    return max(known, key=lambda pair: round(pair[0], 9))[1]


def tau_with_interval(
    choice: Choice,
    signals: Signals,
    students: Int64[np.ndarray, " S"],
    gains: Float[np.ndarray, "students videos"],
    num_draws: int,
) -> Interval:
    """Compute τ with the mean gain, and its interval over students and videos drawn with replacement.

    Args:
        choice: What ranks.
        signals: Of all students.
        students: Which are looked at.
        gains: Theirs.
        num_draws: Bootstrap samples; those in which τ is undefined are left out.
    """
    generator = np.random.default_rng(0)
    num_students, num_videos = gains.shape
    draws = []
    for _ in range(num_draws):
        drawn, videos = (
            generator.integers(num_students, size=num_students),
            generator.integers(num_videos, size=num_videos),
        )
        draws.append(tau(choice.rank(signals, students[drawn]), gains[drawn][:, videos].mean(1)))
    known = np.array([value for value in draws if np.isfinite(value)])
    low, high = np.percentile(known, [2.5, 97.5]).tolist() if len(known) else (float("nan"), float("nan"))
    return tau(choice.rank(signals, students), gains.mean(1)), low, high


@dataclass(frozen=True)
class Finding:
    """How one signal, or the chosen combination, ranks students.

    Attributes:
        choice: What ranks.
        chosen_on: τ where the choice was made.
        tests: τ by what it is tested on: the other students on the other videos, and the same students on each other
            task; "all" is that of all students on all videos, which nothing was chosen by but which is no test.
    """

    choice: Choice
    chosen_on: float
    tests: dict[str, Interval]


def find(study: Study, choice: Choice, num_draws: int) -> Finding:
    """Test a signal or combination."""
    ours, videos = np.flatnonzero(study.tests), study.test_videos
    theirs, everyone = np.flatnonzero(~study.tests), np.arange(len(study.names))
    on = {"videos": (ours, study.video_gains[ours][:, videos])}
    on |= {name: (ours, gains[ours][:, None]) for name, gains in study.other_gains.items()}
    on["all"] = (everyone, study.video_gains)
    tests = {name: tau_with_interval(choice, study.signals, *where, num_draws) for name, where in on.items()}
    before = tau(choice.rank(study.signals, theirs), study.video_gains[theirs][:, ~videos].mean(1))
    return Finding(choice, before, tests)


def analyse(study: Study, num_draws: int) -> tuple[Finding, list[Finding]]:
    """Choose, and test the choice and each signal by itself.

    Raises:
        ValueError: If there are too few students on a side, or too few videos to split.
    """
    sides = [int((study.tests == side).sum()) for side in (False, True)]
    if min(sides) < FEWEST or len(study.videos) < 2:
        raise ValueError(
            f"{sides[0]} students to choose on, {sides[1]} to test on, {len(study.videos)} videos: there must be "
            f"{FEWEST} students on each side and two videos; train more rows"
        )
    singles = [Choice(((name, SIGNALS[name][1]),)) for name in study.signals]
    return find(study, choose(study), num_draws), [find(study, choice, num_draws) for choice in singles]


def verdict(study: Study, chosen: Finding) -> str:
    """Say in a sentence or two whether there is a verdict without labels."""
    value, low, high = chosen.tests["videos"]
    number = f"τ {plain(value)} [{plain(low)}, {plain(high)}]"
    where = f"{int(study.tests.sum())} students and {int(study.test_videos.sum())} videos that it was not chosen on"
    head = (
        f"**{chosen.choice.name}**, chosen at τ {plain(chosen.chosen_on)}, has {number} with the mean gain of {where}"
    )
    if not value >= BAR:
        return f"{head}: below the bar of .6, so there is no verdict without labels here."
    sure = "and its interval lies above it too" if low >= BAR else "though its interval reaches below it"
    return f"{head}: it reaches the bar of .6, {sure}."


def write_page(study: Study, chosen: Finding, singles: Sequence[Finding]) -> list[str]:
    """Write verdict and tables as Markdown."""
    names = list(chosen.tests)
    titles = {"videos": "test videos", "all": "all students, all videos (no test)"}
    header = ["signal", "what it is", "choosing τ", *(f"τ, {titles.get(name, name)}" for name in names)]
    cells = []
    for finding in (chosen, *singles):
        what = "chosen" if finding is chosen else SIGNALS[finding.choice.parts[0][0]][0]
        cells.append([finding.choice.name, what, plain(finding.chosen_on)])
        cells[-1] += [f"{plain(v)} [{plain(low)}, {plain(high)}]" for v, low, high in finding.tests.values()]
    choosing = ", ".join(name for name, test in zip(study.videos, study.test_videos, strict=True) if not test)
    testing = ", ".join(name for name, test in zip(study.videos, study.test_videos, strict=True) if test)
    lines = [
        verdict(study, chosen),
        "",
        "Rule, fixed beforehand: rows of even number choose, odd ones test, all seeds of a row on one side; of all "
        "signals and all means of the ranks of two, in either direction, the one with the highest τ with the mean gain "
        f"of the choosing students on {choosing}. Tested on the other students, on {testing} and on every other task. "
        "Intervals: 95%, students and videos drawn with replacement. `less` turns a signal round.",
        "",
        *markdown_table(header, cells),
        "",
        "## Students",
        "",
    ]
    rank = chosen.choice.rank(study.signals, np.arange(len(study.names)))
    table = []
    for index in np.argsort(-study.video_gains.mean(1)):
        side = "tests" if study.tests[index] else "chooses"
        gains = [study.video_gains[index].mean(), *(values[index] for values in study.other_gains.values())]
        table.append([study.names[index], side, *(signed(float(gain)) for gain in gains), f"{rank[index]:.1f}"])
    header = ["student", "half", "gain, videos", *(f"gain, {name}" for name in study.other_gains), "chosen rank"]
    return [*lines, *markdown_table(header, table), ""]


def draw(study: Study, chosen: Finding, singles: Sequence[Finding]) -> Figure:
    """Draw the chosen ranks against gains, and τ of every signal with its interval."""
    figure = Figure((9.6, 4.8), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    for side, videos, colour, label in (
        (~study.tests, ~study.test_videos, "#b4bac2", "choosing students and videos"),
        (study.tests, study.test_videos, "#2f86eb", "test students and videos"),
    ):
        students = np.flatnonzero(side)
        rank = chosen.choice.rank(study.signals, students)
        left.plot(rank, study.video_gains[students][:, videos].mean(1), "o", color=colour, markersize=5, label=label)
    left.axhline(0, color="#010203", linewidth=0.7)
    left.set_xlabel(f"rank by {chosen.choice.name}")
    left.set_ylabel("mean gain over the teacher")
    left.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for place, finding in enumerate((chosen, *singles)):
        value, low, high = finding.tests["videos"]
        colour = "#2f86eb" if finding is chosen else "#868e99"
        right.barh(place, value, color=colour, height=0.6, alpha=0.6)
        right.plot([low, high], [place, place], color=colour, linewidth=1.5)
    right.set_xticks([-1, -0.5, 0, 0.5, 1])
    right.set_yticks(
        range(len(singles) + 1), [f"chosen: {chosen.choice.name}", *(finding.choice.name for finding in singles)]
    )
    right.invert_yaxis()
    right.axvline(BAR, color="#dd7a0b", linewidth=1, linestyle="--")
    right.axvline(0, color="#010203", linewidth=0.7)
    right.set_xlabel("τ on test students and videos")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    return figure
