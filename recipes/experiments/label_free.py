"""Which signal, measured without any label, tells which student is better on tasks?

Shape legend: none.

Trains the students of a YAML as `run.py` does, measures every signal of `label_free_signals.py` and the scores of all
tasks, and ranks students by both (`label_free_analysis.py`, which says how signals are chosen and tested).

Command:  python recipes/experiments/label_free.py recipes/experiments/label_free.yaml [--part 0/8] [--analyse]
Writes:   runs/experiments/label_free/<student>/outcome.json, one per student, whole or absent: those there are, are not
          made again, failed ones included (remove the file to try again). Then, but for --part,
          recipes/results/label_free/ (README.md, figure.png, results.json)
Parts:    --part i/n takes every n-th student from the i-th on, counted from 0, so that n processes share the work; then
          --analyse looks at what there is
"""

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import run as driver
import yaml
from label_free_analysis import Study, analyse, draw, verdict, with_dse, write_page
from label_free_signals import Signals, open_unlabeled

from srt_distill.comparison import judge_items
from srt_distill.comparison.rows import as_folder
from srt_distill.files import replaced_file, write_file
from srt_distill.tasks import Candidate, Item, Outcome, Task
from srt_distill.tasks.davis.video_propagation import infer_patch

TEACHER = "teacher"
STOPPED = 128  # exit statuses from here on are of a signal: the work was stopped, and did not fail
NUM_DRAWS = 1000


@dataclass(frozen=True)
class Student:
    """One training.

    Attributes:
        row: Its row in the YAML.
        number: Of the row, counted from 0 without the teacher.
        seed: Of the training; None for the teacher, which is only judged.
        fit: Options of `srt-distill fit`.
    """

    row: str
    number: int
    seed: int | None
    fit: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its caption."""
        return self.row if self.seed is None else f"{self.row}, seed {self.seed}"


def list_students(experiment: Mapping[str, Any]) -> list[Student]:
    """List the teacher, and a student per row and seed."""
    students = [Student(TEACHER, -1, None, {})]
    trained = {name: options for name, options in experiment["rows"].items() if options and "fit" in options}
    for number, (name, options) in enumerate(trained.items()):
        seeds = options.get("seeds", experiment.get("seeds", [0]))
        students += [Student(name, number, seed, options["fit"]) for seed in seeds]
    return students


class Judge:
    """Judges students of an experiment, on data that is read once.

    Args:
        experiment: The YAML.
    """

    def __init__(self, experiment: Mapping[str, Any]) -> None:
        self.experiment = experiment
        self.plan: list[tuple[Task, Sequence[Item]]] = [(task, task.items()) for task in driver.open_tasks(experiment)]
        self.teacher = driver.make_candidate(experiment, experiment["teacher"], {})
        self.signals = Signals(self.teacher, open_unlabeled(experiment["unlabeled"], infer_patch(self.teacher)))

    def judge(self, student: Student, folder: Path) -> dict[str, Any]:
        """Train a student and give its signals, the outcomes of all tasks, and the seconds that each took."""
        begun = time.perf_counter()
        candidate: Candidate = self.teacher
        if student.seed is not None:
            self._train(student, folder)
            candidate = driver.make_candidate(self.experiment, [str(folder / "run")], {})
        trained = time.perf_counter()
        signals = self.signals.measure(candidate)
        broken = [name for name, value in signals.items() if not np.isfinite(value)]
        if broken:
            raise ValueError(f"no number for {', '.join(broken)}")
        measured = time.perf_counter()
        candidate, tasks = replace(candidate, name=student.name), {}
        for task, items in self.plan:
            judged = judge_items(task, candidate, items, folder / task.info.name, progress=False)
            tasks[task.info.name] = {name: outcome.numbers for name, outcome in judged.outcomes.items()}
        seconds = {"train": trained - begun, "signals": measured - trained, "tasks": time.perf_counter() - measured}
        return {"signals": signals, "tasks": tasks, "seconds": seconds}

    def _train(self, student: Student, folder: Path) -> None:
        """Train, and turn what the command says as it fails into an error."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                driver.train(self.experiment, student.fit, student.seed or 0, folder / "run")
        except SystemExit as status:
            if isinstance(status.code, int) and status.code >= STOPPED:
                raise
            lines = [line for line in said.getvalue().splitlines() if line.startswith("srt-distill fit: ")]
            raise RuntimeError(lines[-1] if lines else said.getvalue()[-500:]) from status
        finally:
            sys.stderr.write(said.getvalue())


def make_outcomes(experiment: Mapping[str, Any], students: Sequence[Student], work: Path) -> None:
    """Train and judge those students that are not finished; one that fails is noted, and the others go on."""
    missing = [student for student in students if not outcome_file(work, student).exists()]
    if not missing:
        return
    judge = Judge(experiment)
    for student in missing:
        path = outcome_file(work, student)
        about: dict[str, Any] = {"row": student.row, "seed": student.seed}
        try:
            about |= judge.judge(student, path.parent)
        except Exception as error:  # whatever a harmed student breaks; all others can still be judged
            about["failed"] = f"{type(error).__name__}: {error}"
        write_file(path, json.dumps(about, indent=1) + "\n")
        taken = ", ".join(f"{name} {value:.1f} s" for name, value in about.get("seconds", {}).items())
        print(f"{student.name}: {about.get('failed', taken)}", flush=True)


def outcome_file(work: Path, student: Student) -> Path:
    """Where a student's outcome lies."""
    return work / as_folder(student.name) / "outcome.json"


def read_study(experiment: Mapping[str, Any], work: Path) -> tuple[Study, dict[str, str], dict[str, Any]]:
    """Gather what there is of all students.

    Returns:
        The study, why students are not in it, and the outcomes of those that are.

    Raises:
        FileNotFoundError: If the teacher is not judged.
        ValueError: If it failed, or no student is there.
    """
    teacher, *students = list_students(experiment)
    reference = json.loads(outcome_file(work, teacher).read_text())
    if "failed" in reference:
        raise ValueError(f"the teacher could not be judged: {reference['failed']}")
    left_out: dict[str, str] = {}
    found: list[tuple[Student, dict[str, Any]]] = []
    for student in students:
        path = outcome_file(work, student)
        outcome = json.loads(path.read_text()) if path.exists() else {"failed": "not trained yet"}
        if "failed" in outcome:
            left_out[student.name] = outcome["failed"]
        else:
            found.append((student, outcome))
    if not found:
        raise ValueError(f"no student in {work} is judged; {len(left_out)} are missing or failed")
    names = set.intersection(*(set(outcome["signals"]) for _, outcome in found))
    shared = [name for name in reference["signals"] if name in names]
    signals = {name: np.array([outcome["signals"][name] for _, outcome in found]) for name in shared}
    tasks = driver.open_tasks(experiment)
    video, *others = sorted(tasks, key=lambda task: task.info.item != "video")
    videos = list(reference["tasks"][video.info.name])
    study = Study(
        names=[student.name for student, _ in found],
        rows=[student.number for student, _ in found],
        signals=with_dse(signals),
        videos=videos,
        video_gains=np.array([[gain(video, outcome, reference, [name]) for name in videos] for _, outcome in found]),
        other_gains={
            f"{task.info.name} ({task.info.scores[0].name})": np.array(
                [gain(task, outcome, reference, list(reference["tasks"][task.info.name])) for _, outcome in found]
            )
            for task in others
        },
    )
    return study, left_out, {student.name: outcome for student, outcome in found} | {TEACHER: reference}


def gain(task: Task, ours: Mapping[str, Any], reference: Mapping[str, Any], items: Sequence[str]) -> float:
    """Measure how much better a student is than the teacher in the headline of a task, over some items."""
    outcomes, base = (
        [Outcome(by[task.info.name][name]) for name in items] for by in (ours["tasks"], reference["tasks"])
    )
    headline = task.info.scores[0]
    scores, theirs = (task.pool(of) | task.relate(of, base) for of in (outcomes, base))
    return (scores[headline.name] - theirs[headline.name]) * (1 if headline.higher_is_better else -1)


def write_results(experiment: Mapping[str, Any], path: Path, work: Path, num_draws: int) -> Path:
    """Analyse what there is, and write page, figure and numbers; return their folder."""
    study, left_out, outcomes = read_study(experiment, work)
    chosen, singles = analyse(study, num_draws)
    output = driver.RESULTS / experiment["name"]
    shown = path.relative_to(driver.ROOT) if path.is_relative_to(driver.ROOT) else Path(path.name)
    failed = [f"- {name}: {reason.splitlines()[0]}" for name, reason in left_out.items()]
    lines = [f"# {experiment['title']}", "", str(experiment["claim"]).strip(), ""]
    lines += [f"Made by `python recipes/experiments/label_free.py {shown}`: {len(study.names)} students.", ""]
    lines += ["![chosen signal against gain, and τ of all signals](figure.png)", ""]
    lines += [
        *write_page(study, chosen, singles),
        *what_was_looked_at(experiment["unlabeled"]),
        "",
        *(["## Left out", "", *failed, ""] if failed else []),
    ]
    numbers = {
        "verdict": verdict(study, chosen),
        "chosen": asdict(chosen),
        "signals": [asdict(finding) for finding in singles],
        "students": {
            name: {
                "half": "test" if study.tests[index] else "choose",
                "signals": {signal: float(values[index]) for signal, values in study.signals.items()},
                "gains": dict(zip(study.videos, study.video_gains[index].tolist(), strict=True))
                | {task: float(values[index]) for task, values in study.other_gains.items()},
                "seconds": outcomes[name]["seconds"],
            }
            for index, name in enumerate(study.names)
        },
        "teacher": outcomes[TEACHER]["signals"],
        "left_out": left_out,
    }
    write_file(output / "results.json", json.dumps(numbers, indent=1) + "\n")
    with replaced_file(output / "figure.png") as temporary:
        draw(study, chosen, singles).savefig(temporary)
    write_file(output / "README.md", "\n".join(lines))
    return output


def what_was_looked_at(options: Mapping[str, Any]) -> list[str]:
    """Say what signals were measured on, and what is not in their names."""
    photographs = f", {options['num_photographs']} photographs" if options.get("photographs") else ""
    return [
        f"Signals: {options['num_frames']} frames{photographs} and {options['num_videos']} videos of",
        f"{options['frames_per_video']} frames, the same for all students, none of a video that is scored; students",
        "may have learned from frames of these scenes. DSE: Dai et al. (NeurIPS 2025, arXiv 2510.17299) and its public",
        "code, k-means of 24 clusters over eight images and of 3 in each, unit tokens, its two parts brought to one",
        "spread over students. Agreement of the untouched head is a task without labels: the harm that the weights'",
        "own classifier sees, on photographs that signals are not measured on.",
    ]


def read_part(text: str) -> tuple[int, int]:
    """Read i/n.

    Raises:
        argparse.ArgumentTypeError: If i does not count from 0 to n - 1.
    """
    try:
        part, count = map(int, text.split("/"))
    except ValueError:
        part, count = 0, 0
    if not 0 <= part < count:
        raise argparse.ArgumentTypeError(f"{text!r} is no part; write i/n, i from 0 to n - 1, such as 0/8")
    return part, count


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; make what is missing, and analyse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path, help="YAML file")
    parser.add_argument("--part", type=read_part, metavar="i/n", help="students of this part only, without analysis")
    parser.add_argument("--analyse", action="store_true", help="analyse what there is, and make nothing")
    parser.add_argument("--draws", type=int, default=NUM_DRAWS, help="bootstrap samples (default %(default)s)")
    options = parser.parse_args(arguments)
    path = options.experiment.resolve()
    with contextlib.chdir(driver.ROOT):
        experiment: dict[str, Any] = {"name": path.stem, **yaml.safe_load(path.read_text())}
        work = driver.WORK / experiment["name"]
        part, count = options.part or (0, 1)
        if not options.analyse:
            make_outcomes(experiment, list_students(experiment)[part::count], work)
        if options.part is None or options.analyse:
            output = write_results(experiment, path, work, options.draws)
            print((output / "README.md").read_text())


if __name__ == "__main__":
    main()
