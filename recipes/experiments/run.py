"""The driver of all experiments: a YAML of rows, over seeds and tasks, to one page; finished work is kept.

Shape legend: none.

A row is the words of a command: of `srt-distill evaluate` for features of the teacher (`srt.radius: 3`,
`baseline: bilinear`), or, under `fit`, of `srt-distill fit` for students, which are trained under every seed and judged
in one pass.

    title: Which radius?
    claim: What to look for, in a sentence or two.
    teacher: [deit_tiny_patch16_224, --backbone.weights, path/to/deit_tiny.safetensors]
    tasks: {davis: path/to/DAVIS, davis.scale: 0.5}
    rows:
      single pass: {}
      SRT d=3: {srt.radius: 3}
      student: {fit: {config: deit_tiny_davis, trainer.max_steps: 300}}
    ensemble: SRT d=3
    seeds: [0, 1, 2]

Command:  python recipes/experiments/run.py recipes/experiments/<name>.yaml
Writes:   recipes/results/<name>/ (README.md, figure.png, results.json); runs and outcomes to runs/experiments/<name>,
          where a run that was stopped goes on and a finished item is not judged again
"""

import argparse
import contextlib
import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from srt_distill.cli import main as srt_distill
from srt_distill.commands.evaluate import evaluate
from srt_distill.commands.parsing import CommandParser
from srt_distill.comparison import Judged, judge_items, open_candidate
from srt_distill.comparison.feature_memory import FeatureMemory
from srt_distill.comparison.intervals import paired_bootstrap
from srt_distill.comparison.report.table import markdown_table
from srt_distill.comparison.rows import as_folder, percent, plain, signed
from srt_distill.files import replaced_file, write_file
from srt_distill.tasks import Candidate, Item, Outcome, Task

ROOT = Path(__file__).resolve().parents[2]
RESULTS, WORK = ROOT / "recipes" / "results", ROOT / "runs" / "experiments"
NOT_OF_CANDIDATES = ("fit", "seeds")


@dataclass(frozen=True)
class Row:
    """A row of the table: one candidate, or one per seed.

    Attributes:
        name: Caption.
        passes: Forward passes per image.
        seeds: Outcomes by task, one per seed; a candidate that nothing is trained for has one.
    """

    name: str
    passes: int
    seeds: tuple[dict[str, Judged], ...]


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Write options as words of a command line."""
    return [word for name, value in options.items() for word in (f"--{name}", _as_word(value))]


def _as_word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def open_tasks(experiment: Mapping[str, Any]) -> list[Task]:
    """Open the tasks of an experiment on their data."""
    words = ["--backbone", "unused", "--output", "unused", *as_words(experiment["tasks"])]
    return CommandParser("evaluate", evaluate).read(words)["tasks"]


def make_candidate(experiment: Mapping[str, Any], backbone: Sequence[str], options: Mapping[str, Any]) -> Candidate:
    """Make the candidate of `srt-distill evaluate --backbone … <options>`."""
    words = ["--backbone", *backbone, "--output", "unused", *as_words(experiment["tasks"]), *as_words(options)]
    arguments = CommandParser("evaluate", evaluate).read(words)
    for name in ("tasks", "output", "progress"):
        arguments.pop(name, None)
    return open_candidate(**arguments)


def train(experiment: Mapping[str, Any], fit: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Train a student, or go on with one that was stopped; a finished one is left as it is.

    Raises:
        SystemExit: If the command fails; it has said why.
    """
    if (folder / "finished").exists():
        return
    name, *more = experiment["teacher"]
    teacher = ["--model.backbone", name, *(word.replace("--backbone.", "--model.backbone.") for word in more)]
    place = ["--trainer.default_root_dir", str(folder), "--seed_everything", str(seed), "--resume", "auto"]
    config = ["--config", str(fit["config"])] if "config" in fit else []
    options = {key: value for key, value in fit.items() if key != "config"}
    if status := srt_distill(["fit", *config, *teacher, *as_words(options), *place]):
        raise SystemExit(status)
    write_file(folder / "finished", "")


def judge_row(
    experiment: Mapping[str, Any], name: str, options: Mapping[str, Any], plan: Sequence[tuple[Task, Sequence[Item]]]
) -> Row:
    """Train what is to be trained, and judge a row on all tasks."""
    place = WORK / experiment["name"] / as_folder(name)
    seeds = options.get("seeds", experiment.get("seeds", [0])) if "fit" in options else [None]
    others = {key: value for key, value in options.items() if key not in NOT_OF_CANDIDATES}
    judged, passes = [], 1
    for seed in seeds:
        backbone, folder = experiment["teacher"], place
        if seed is not None:
            folder = place / f"seed-{seed}"
            train(experiment, options["fit"], seed, folder / "run")
            backbone = [str(folder / "run")]
        candidate = replace(make_candidate(experiment, backbone, others), name=name)
        passes, candidate = candidate.passes, FeatureMemory().attach(candidate)
        judged.append(
            {
                task.info.name: judge_items(task, candidate, i, folder / task.info.name, progress=True)
                for task, i in plan
            }
        )
    return Row(name, passes, tuple(judged))


class TaskTable:
    """All rows on one task: scores with their spread over seeds, gains with their intervals over items.

    Args:
        task: The task.
        items: Its items.
        rows: In order.
        reference: The row that gains are relative to.
        ensemble: The row whose gain is the whole, or None.
    """

    def __init__(
        self, task: Task, items: Sequence[Item], rows: Sequence[Row], reference: str, ensemble: str | None
    ) -> None:
        self.task, self.items, self.rows, self.ensemble = task, items, rows, ensemble
        self.reference = next(row for row in rows if row.name == reference)
        self.headline = task.info.scores[0]

    def outcomes(self, row: Row, seed: int) -> list[Outcome]:
        """Outcomes of a row under one seed, by item; a row without seeds has the same under all."""
        judged = row.seeds[seed % len(row.seeds)]
        return list(judged[self.task.info.name].outcomes.values())

    def scores(self, row: Row, seed: int) -> dict[str, float]:
        """Pooled scores of a row under one seed."""
        ours, theirs = self.outcomes(row, seed), self.outcomes(self.reference, seed)
        return self.task.pool(ours) | self.task.relate(ours, theirs)

    def all_scores(self, row: Row, score: str) -> list[float]:
        """One score of a row under all its seeds."""
        return [self.scores(row, seed)[score] for seed in range(len(row.seeds))]

    def gain(self, row: Row, over: Row) -> tuple[float, float, float]:
        """Gain of a row's headline over another, mean over seeds, with its 95% interval over items."""
        name, num_seeds = self.headline.name, max(len(row.seeds), len(over.seeds))

        def difference(ours: Row, theirs: Row, seed: int, chosen: Sequence[int] | None = None) -> float:
            pair = [self.outcomes(row, seed) for row in (ours, theirs)]
            drawn = pair if chosen is None else [[outcomes[i] for i in chosen] for outcomes in pair]
            base = self.outcomes(self.reference, seed)
            base = base if chosen is None else [base[i] for i in chosen]
            first, second = (self.task.pool(o) | self.task.relate(o, base) for o in drawn)
            return first[name] - second[name]

        def pool(drawn: Sequence[Outcome], reference: Sequence[Outcome]) -> dict[str, float]:
            chosen = [int(outcome.numbers["item"]) for outcome in drawn]
            mean = statistics.fmean(difference(row, over, seed, chosen) for seed in range(num_seeds))
            return {"gain": 0.0 if drawn is reference else mean}

        numbered = [Outcome({"item": index}) for index in range(len(self.items))]
        low, high = paired_bootstrap(pool, numbered, list(numbered))["gain"]
        return statistics.fmean(difference(row, over, seed) for seed in range(num_seeds)), low, high

    def lines(self) -> list[str]:
        """Write the table as Markdown."""
        info, name, whole = self.task.info, self.headline.name, self._whole()
        others = [score for score in info.scores[1:4]]
        header = ["row", "passes", name, f"Δ {self.reference.name} [95%]", "seeds"]
        header += [f"of {self.ensemble}'s gain"] * bool(whole) + [score.name for score in others]
        cells = []
        for row in self.rows:
            gain, low, high = self.gain(row, self.reference)
            line = [row.name, str(row.passes), spread(self.all_scores(row, name))]
            same = row is self.reference
            line.append("\N{EN DASH}" if same else f"{signed(gain)} [{signed(low)}, {signed(high)}]")
            line.append(str(len(row.seeds)) if row.seeds and len(row.seeds) > 1 else "\N{EN DASH}")
            if whole:
                line.append("\N{EN DASH}" if same else percent(gain / whole))
            cells.append([*line, *(spread(self.all_scores(row, score.name)) for score in others)])
        by_item = [
            [item.name, *(plain(statistics.fmean(self.by_item(row, index))) for row in self.rows)]
            for index, item in enumerate(self.items)
        ]
        lines = [f"## {info.title}", "", f"Items ({info.item}): {len(self.items)}. Source: {info.source}.", ""]
        lines += [*markdown_table(header, cells), ""]
        if len(self.items) <= 20:
            lines += markdown_table([f"{name} by {info.item}", *(row.name for row in self.rows)], by_item)
        return [*lines, ""]

    def by_item(self, row: Row, index: int) -> list[float]:
        """Give the headline of one item alone, under each seed."""
        pairs = [(self.outcomes(row, s)[index], self.outcomes(self.reference, s)[index]) for s in range(len(row.seeds))]
        scores = [self.task.pool([ours]) | self.task.relate([ours], [theirs]) for ours, theirs in pairs]
        return [score[self.headline.name] for score in scores]

    def _whole(self) -> float:
        """Give the ensemble's gain, or 0 where there is none to state shares of."""
        if self.ensemble is None:
            return 0.0
        gain = self.gain(next(row for row in self.rows if row.name == self.ensemble), self.reference)[0]
        return gain if (gain > 0) == self.headline.higher_is_better else 0.0

    def draw(self, axes: Axes) -> None:
        """Draw gains over the reference with their intervals, a line per row."""
        shown = [row for row in self.rows if row is not self.reference]
        for place, row in enumerate(shown):
            gain, low, high = self.gain(row, self.reference)
            axes.plot([low, high], [place, place], color="#868e99", linewidth=1.5)
            axes.plot([gain], [place], "o", color="#2f86eb" if row.passes == 1 else "#dd7a0b", markersize=6)
        axes.axvline(0, color="#010203", linewidth=0.7)
        axes.set_yticks(range(len(shown)), [row.name for row in shown])
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25, linewidth=0.6)
        axes.set_xlabel(f"{self.headline.name} over {self.reference.name}: {self.task.info.name}")


def spread(values: Sequence[float]) -> str:
    """Write the mean, with the standard deviation over seeds where there are several."""
    several = len(values) > 1 and not any(map(math.isnan, values))
    deviation = f" ± {statistics.stdev(values):.3f}" if several else ""
    return plain(statistics.fmean(values)) + deviation


def run_experiment(path: Path) -> Path:
    """Run an experiment and write its page.

    Args:
        path: The YAML.

    Returns:
        The folder of the results.
    """
    experiment: dict[str, Any] = {"name": path.stem, **yaml.safe_load(path.read_text())}
    plan = [(task, task.items()) for task in open_tasks(experiment)]
    rows = [judge_row(experiment, name, options or {}, plan) for name, options in experiment["rows"].items()]
    reference = experiment.get("reference", rows[0].name)
    tables = [TaskTable(task, items, rows, reference, experiment.get("ensemble")) for task, items in plan]
    output = RESULTS / experiment["name"]
    place = path.resolve()
    shown = place.relative_to(ROOT) if place.is_relative_to(ROOT) else Path(path.name)
    lines = [f"# {experiment['title']}", "", str(experiment["claim"]).strip(), ""]
    lines += [f"Made by `python recipes/experiments/run.py {shown}`.", "", "![gains](figure.png)", ""]
    lines += [line for table in tables for line in table.lines()]
    numbers = {
        table.task.info.name: {
            row.name: {"scores": [table.scores(row, s) for s in range(len(row.seeds))], "passes": row.passes}
            for row in rows
        }
        for table in tables
    }
    write_file(output / "results.json", json.dumps(numbers, indent=1) + "\n")
    figure = Figure((6.4, (0.9 + 0.3 * len(rows)) * len(tables)), layout="constrained", dpi=150)
    for index, table in enumerate(tables, start=1):
        table.draw(figure.add_subplot(len(tables), 1, index))
    with replaced_file(output / "figure.png") as temporary:
        figure.savefig(temporary)
    write_file(output / "README.md", "\n".join(lines))
    return output


def main() -> None:
    """Parse the command line and run experiments one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", type=Path, nargs="+", help="YAML files")
    options = parser.parse_args()
    paths = [path.resolve() for path in options.experiments]
    with contextlib.chdir(ROOT):
        for path in paths:
            output = run_experiment(path)
            print((output / "README.md").read_text())
            print(f"written to {os.path.relpath(output)}")


if __name__ == "__main__":
    main()
