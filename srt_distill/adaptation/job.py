"""From a folder of images to an adapted, exported and judged model: what `srt-distill adapt` does, as a function.

Shape legend: none.
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from srt_distill.adaptation.budget import parse_budget
from srt_distill.adaptation.headroom import Headroom
from srt_distill.adaptation.machine import Machine, look_at_machine
from srt_distill.adaptation.page import draw_pictures, render_page
from srt_distill.adaptation.plan import Plan, load_plan, make_data, make_model, make_plan
from srt_distill.adaptation.verdict import Verdict
from srt_distill.backbone import hash_weights
from srt_distill.backbone.options import BackboneOptions, ExecutionOptions
from srt_distill.comparison import STUDENT, Comparison, compare, open_candidates
from srt_distill.data.recognition import Recognised, recognise_images
from srt_distill.exporting import export_student
from srt_distill.files import require_writable, write_file
from srt_distill.runs import CONFIG_FILE, GAP_CLOSED, PARITY_FILE, RELATIONS_CLOSED, Run, load_run, read_checkpoint
from srt_distill.tasks import Task
from srt_distill.training.fit import fit
from srt_distill.training.run_folder import BEST_CHECKPOINT, last_checkpoint

RUN, MODEL, COMPARISON = "run", "model", "comparison"
"""Folders below the output: of training, of the exported model, of scores on tasks."""

REPORT, RECORD, REQUEST = "report.html", "adaptation.json", "request.json"


@dataclass(frozen=True)
class Adaptation:
    """What came of adapting a backbone.

    Attributes:
        output: Folder that holds all of it.
        model: The exported timm folder.
        report: The page.
        verdict: Whether it helped.
        headroom: What SRT changes of the original's features, measured before.
        seconds: That this call took.
        stopped_by: The signal that ended training early, if one did: then there is no model yet, and the same call goes
            on.
    """

    output: Path
    model: Path
    report: Path
    verdict: Verdict | None
    headroom: Headroom
    seconds: float
    stopped_by: signal.Signals | None = None

    @property
    def closing_lines(self) -> list[str]:
        """Say whether it helped, where the model is and how to use it."""
        if self.verdict is None:
            return [f"stopped by {getattr(self.stopped_by, 'name', 'a signal')}; the same command goes on from there"]
        return [
            f"Did it help?  {self.verdict.sentence}",
            f"The model:    {self.model} (what was found: {self.report})",
            f'How to use:   timm.create_model("local-dir:{self.model}", pretrained=True)',
        ]


def adapt(
    backbone: BackboneOptions | str,
    images: str | Path | Sequence[str | Path],
    output: str | Path | None = None,
    *,
    budget: str | int | None = None,
    tasks: Sequence[Task] = (),
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> Adaptation:
    """Adapt a backbone to unlabeled images, export it, and say whether it helped.

    Looks at images, model and machine, chooses a run of the default recipe that fits them, trains it, exports the
    student that did best on held-out images with proof (the last where none are held out), and writes a report. Called
    again with the same arguments it goes on where it was stopped or killed.

    Args:
        backbone: The model, or its name.
        images: What to adapt to: a folder, a file list, videos, a data set, shards; or several of these.
        output: Folder for everything; by default in runs/, named by backbone and images.
        budget: Steps such as 2000, or time such as `30m`; None leaves it to the number of images.
        tasks: Labelled tasks that the student is judged on, beside the original and its SRT.
        device: `auto` takes the accelerator at hand, or the CPU.
        seed: Of crops, order and shifts.
        progress: Show how far the work is.
        say: Told each line of what was chosen.

    Returns:
        Where everything is, and the verdict.

    Raises:
        FileNotFoundError: If there are no images, or the backbone is not found.
        ValueError: If the output holds another adaptation, or arguments fit nothing.
        RuntimeError: If training diverges, or another one is running in the output.
    """
    begun = time.monotonic()
    backbone = BackboneOptions(backbone) if isinstance(backbone, str) else backbone
    given = [str(word) for word in ([images] if isinstance(images, str | Path) else images)]
    output = Path(output) if output is not None else default_output(backbone.name, given)
    asked = parse_budget(budget)
    for task in tasks:
        task.items()  # missing labels are found before any work
    require_same_request(output, {"backbone": asdict(backbone), "images": given, "budget": budget, "seed": seed})
    machine = look_at_machine(device)
    watched = progress and sys.stderr.isatty()
    found = recognise_images(given)
    config, record = output / CONFIG_FILE, output / RECORD
    if config.is_file() and record.is_file():
        plan = load_plan(config, record)
        say(f"Going on with what {config} says:")
    else:
        plan = make_plan(backbone, found, machine, asked, output / RUN, seed)
        write_file(record, plan.record)
        write_file(config, plan.yaml)
        say(f"Chosen, and written to {config} (srt-distill fit --config takes it):")
    for line in plan.describe():
        say(line)

    folder = output / RUN
    stopped_by = train(plan, found, folder, progress=progress)
    if stopped_by is not None:
        model, report = output / MODEL, output / REPORT
        return Adaptation(output, model, report, None, plan.headroom, time.monotonic() - begun, stopped_by)
    run = load_run(best_checkpoint(folder))
    export_once(run, output / MODEL, progress=watched)
    comparison = judge(backbone, output / MODEL, tasks, output / COMPARISON, machine, watched) if tasks else None
    smoothing = plan.headroom.smoothing if run.settings["readout"] == "none" else None
    held_out = int(plan.settings["data"]["held_out"])
    model = make_model(plan.settings)
    data = make_data({**plan.settings, "data": {**plan.settings["data"], "num_workers": 0}}, found, model)
    data.setup("fit")
    gap, relations = run.scores.get(GAP_CLOSED), run.scores.get(RELATIONS_CLOSED)
    verdict = Verdict(gap, held_out, smoothing, relations, comparison)
    pictures = draw_pictures(model.reading, run, data, machine.device)
    usage = f'timm.create_model("local-dir:{output / MODEL}", pretrained=True)'
    page = f"{COMPARISON}/{REPORT}" if comparison is not None else None
    write_file(output / REPORT, render_page(plan, verdict, run, pictures, usage, page))
    return Adaptation(output, output / MODEL, output / REPORT, verdict, plan.headroom, time.monotonic() - begun)


def default_output(backbone: str, images: Sequence[str]) -> Path:
    """Name a folder by what is adapted to what."""
    first = images[0].rstrip("/") if images else ""
    return Path("runs") / f"{Path(backbone.rpartition(':')[2]).name}-{Path(first).stem or 'images'}"


def require_same_request(output: Path, request: dict[str, Any]) -> None:
    """Prove that an output is empty or holds the adaptation that is asked for, and note what that is.

    Raises:
        ValueError: If it holds another one, or something else.
        PermissionError: If it cannot be written to.
    """
    require_writable(output)
    note = output / REQUEST
    if note.is_file():
        stored = json.loads(note.read_text())
        differing = [name for name, value in request.items() if stored.get(name) != value]
        if differing:
            said = "; ".join(f"{name} {stored.get(name)!r} there, {request[name]!r} now" for name in differing)
            raise ValueError(f"{output} holds another adaptation ({said}); name another --output, or remove it")
        return
    if any(path.name in (RUN, MODEL, CONFIG_FILE) for path in output.iterdir()):
        raise ValueError(f"{output} holds files that are of no adaptation; name another --output")
    write_file(note, json.dumps(request, indent=1))


def train(plan: Plan, images: Recognised, folder: Path, *, progress: bool) -> signal.Signals | None:
    """Train what was planned, or go on with it, or find it done; return the signal that stopped it, if one did."""
    last = last_checkpoint(folder)
    if last.is_file() and read_checkpoint(last)["global_step"] >= plan.settings["trainer"]["max_steps"]:
        return None
    model = make_model(plan.settings)
    data = make_data(plan.settings, images, model)
    trainer = {name: value for name, value in plan.settings["trainer"].items() if name != "default_root_dir"}
    trainer["enable_progress_bar"] = progress
    return fit(model, data, folder, resume="auto", config=plan.yaml, **trainer).stopped_by


def best_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the student that did best on held-out images; the last where none were held out."""
    best = last_checkpoint(folder).with_name(BEST_CHECKPOINT)
    return best if best.is_file() else last_checkpoint(folder)


def export_once(run: Run, folder: Path, *, progress: bool) -> None:
    """Export a student with proof, unless that is what the folder holds."""
    proven = folder / PARITY_FILE
    if proven.is_file() and json.loads(proven.read_text()).get("student_hash") == hash_weights(run.student):
        return
    export_student(run, folder, budget=5.0, progress=progress)


def judge(
    backbone: BackboneOptions, model: Path, tasks: Sequence[Task], output: Path, machine: Machine, progress: bool
) -> Comparison:
    """Judge original, its SRT and the student on labelled tasks."""
    execution = ExecutionOptions(device=str(machine.device))
    lineup = open_candidates(backbone, {STUDENT: BackboneOptions(str(model))}, execution=execution)
    return compare(
        lineup.candidates,
        tasks,
        output,
        reference=lineup.reference,
        ensemble=lineup.ensemble,
        progress=progress,
    )
