"""Candidates on tasks, side by side: what each scores, what it costs, and how sure a gain is.

Shape legend: H W pixels.

Teacher, SRT, student and baselines are rows alike, and every task goes the same way: items are found and checked, those
not finished yet are judged, outcomes are pooled, gains get intervals, and one report says it all.
"""

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from srt_distill.comparison.feature_memory import FeatureMemory
from srt_distill.comparison.intervals import NUM_DRAWS, Pool, paired_bootstrap
from srt_distill.comparison.judging import Judged, judge_items
from srt_distill.comparison.report import draw_sheets, render_html, render_markdown
from srt_distill.comparison.rows import Comparison, Cost, Row, TaskResult, as_folder, check_names
from srt_distill.files import require_writable, write_file
from srt_distill.latency import measure_latency
from srt_distill.tasks import Candidate, Item, Outcome, Task


def compare(
    candidates: Sequence[Candidate],
    tasks: Sequence[Task],
    output: Path,
    *,
    reference: str | None = None,
    ensemble: str | None = None,
    num_draws: int = NUM_DRAWS,
    latency_pairs: int = 15,
    latency_budget: float = 20.0,
    num_pictures: int = 4,
    progress: bool = True,
    command: str = "",
) -> Comparison:
    """Judge candidates on tasks and write `results.json`, `results.md` and `report.html`.

    What a task writes goes to `<output>/<task>/<candidate>/<item>/`. An item that is finished under the same settings,
    features and files is not judged again. Numbers are on disk before pictures are drawn.

    Args:
        candidates: Rows in order.
        tasks: What they are judged on; all their data is checked before any work.
        output: Where results go.
        reference: Name of the candidate that others are measured against; the first by default.
        ensemble: Name of the candidate whose gain is the whole, such as full SRT; None gives no shares.
        num_draws: Bootstrap samples of an interval.
        latency_pairs: Pairs of calls timed per candidate, on an image of the first task; 0 times nothing.
        latency_budget: Seconds after which no further pair is begun.
        num_pictures: Items shown in pictures per task, spread from the largest loss to the largest gain.
        progress: Show progress bars.
        command: What this was called with, for the record.

    Returns:
        The rows and what they say.

    Raises:
        FileNotFoundError: If data of a task is missing.
        ValueError: If names of candidates clash or are unknown, there is no task, or data is unusable.
        PermissionError: If the output folder cannot be written to. All of these before any work starts.
    """
    reference = check_names([candidate.name for candidate in candidates], reference, ensemble)
    plan = check_tasks(tasks)
    require_writable(output)
    memory = FeatureMemory()
    remembering = [memory.attach(candidate) for candidate in candidates]
    folders = {
        task.info.name: {c.name: output / as_folder(task.info.name) / as_folder(c.name) for c in candidates}
        for task, _ in plan
    }
    judged: list[dict[str, Judged]] = []
    for task, items in plan:
        places = folders[task.info.name]
        judged.append({c.name: judge_items(task, c, items, places[c.name], progress=progress) for c in remembering})
        for candidate in candidates:
            write_tables(task, judged[-1][candidate.name], places[candidate.name])
    results = tuple(
        assemble(task, items, candidates, by_candidate, reference, num_draws)
        for (task, items), by_candidate in zip(plan, judged, strict=True)
    )
    settings: dict[str, Any] = {"srt_distill": version("srt-distill"), "torch": torch.__version__, "command": command}
    costs: tuple[Cost, ...] = ()
    if latency_pairs:
        task, items = plan[0]
        costs = measure_costs(task, items[0], candidates, reference, latency_pairs, latency_budget)
        settings["timed_image"] = list(task.view(candidates[0], items[0]).shape[-2:])
        settings["device"] = name_device(candidates[0].device)
    comparison = Comparison(results, costs, reference, ensemble, settings)
    write_file(output / "results.json", json.dumps(comparison.to_dict(), indent=1))
    write_file(output / "results.md", render_markdown(comparison))
    sheets = {
        result.info.name: draw_sheets(comparison, result, task, items, by_candidate, candidates, places, num_pictures)
        for result, (task, items), by_candidate, places in zip(results, plan, judged, folders.values(), strict=True)
    }
    write_file(output / "report.html", render_html(comparison, sheets))
    return comparison


def evaluate(candidate: Candidate, tasks: Sequence[Task], output: Path, *, progress: bool = True) -> Comparison:
    """Judge one candidate: a comparison of one row, without costs and pictures.

    Args:
        candidate: Whose features.
        tasks: What it is judged on.
        output: Where results go: `<item>/` right below it for a single task, `<task>/<item>/` for several.
        progress: Show progress bars.

    Returns:
        The rows; also in `results.json` there.

    Raises:
        FileNotFoundError: If data of a task is missing.
        ValueError: If data is unusable.
        PermissionError: If the output folder cannot be written to. All of these before any work starts.
    """
    name = check_names([candidate.name], None, None)
    plan = check_tasks(tasks)
    require_writable(output)
    remembering = FeatureMemory().attach(candidate)
    results = []
    for task, items in plan:
        place = output if len(plan) == 1 else output / as_folder(task.info.name)
        judged = judge_items(task, remembering, items, place, progress=progress)
        write_tables(task, judged, place)
        results.append(assemble(task, items, [candidate], {name: judged}, name, num_draws=0))
    settings = {"srt_distill": version("srt-distill"), "torch": torch.__version__}
    comparison = Comparison(tuple(results), (), name, None, settings)
    write_file(output / "results.json", json.dumps(comparison.to_dict(), indent=1))
    return comparison


def check_tasks(tasks: Sequence[Task]) -> list[tuple[Task, Sequence[Item]]]:
    """Find and check the data of all tasks.

    Raises:
        ValueError: If there is no task, or two have one name.
    """
    names = [task.info.name for task in tasks]
    if not names:
        raise ValueError("no task given; name the data of at least one")
    if len(set(names)) < len(names):
        raise ValueError(f"two tasks are named alike: {', '.join(names)}; compare on each in a folder of its own")
    return [(task, task.items()) for task in tasks]


def assemble(
    task: Task,
    items: Sequence[Item],
    candidates: Sequence[Candidate],
    judged: dict[str, Judged],
    reference: str,
    num_draws: int,
) -> TaskResult:
    """Pool outcomes to rows, with the gains over the reference and their intervals."""

    def pool(outcomes: Sequence[Outcome], theirs: Sequence[Outcome]) -> dict[str, float]:
        return task.pool(outcomes) | task.relate(outcomes, theirs)

    scored: Pool = pool
    base = list(judged[reference].outcomes.values())
    base_scores = pool(base, base)
    rows = []
    for candidate in candidates:
        outcomes = judged[candidate.name].outcomes
        ours = list(outcomes.values())
        scores = pool(ours, base)
        compared = candidate.name != reference
        rows.append(
            Row(
                name=candidate.name,
                scores=scores,
                by_item={n: pool([o], [b]) for (n, o), b in zip(outcomes.items(), base, strict=True)},
                gains={n: value - base_scores[n] for n, value in scores.items()} if compared else {},
                intervals=paired_bootstrap(scored, ours, base, num_draws=num_draws) if compared else {},
                seconds=judged[candidate.name].seconds,
                fingerprint=candidate.fingerprint,
            )
        )
    state = hashlib.sha256("".join(f"{item.name} {item.digest()}\n" for item in items).encode())
    return TaskResult(task.info, task.settings(), state.hexdigest(), tuple(i.name for i in items), tuple(rows))


def write_tables(task: Task, judged: Judged, folder: Path) -> None:
    """Write the files that the field expects of a task."""
    for name, content in task.tables(judged.outcomes).items():
        write_file(folder / name, content)


def measure_costs(
    task: Task, item: Item, candidates: Sequence[Candidate], reference: str, max_pairs: int, budget: float
) -> tuple[Cost, ...]:
    """Time every candidate against the reference on one image of a task, each in its own size."""
    base = next(candidate for candidate in candidates if candidate.name == reference)
    inputs = {c.name: c.normalization(task.view(c, item).to(c.device)) for c in candidates}
    latencies = {
        c.name: measure_latency(
            c.extract, inputs[c.name], base.extract, inputs[reference], max_pairs=max_pairs, budget=budget
        )
        for c in candidates
        if c is not base or len(candidates) == 1
    }
    # of the reference's medians the one from most pairs: it is timed again beside every other candidate
    steadiest = max(latencies.values(), key=lambda latency: latency.num_pairs)
    return tuple(
        Cost(
            name=c.name,
            passes=c.passes,
            num_parameters=c.num_parameters,
            seconds=steadiest.reference_seconds if c is base else latencies[c.name].seconds,
            latency=None if c is base else latencies[c.name],
        )
        for c in candidates
    )


def name_device(device: torch.device) -> str:
    """Name the machine as a table does: the accelerator, or the processor's kind and the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU ({platform.machine()}, threads: {torch.get_num_threads()})"
    return device.type
