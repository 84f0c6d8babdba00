"""`srt-distill adapt`: from images to an adapted, exported and judged model, with nothing else to say.

Shape legend: none.
"""

from collections.abc import Sequence
from pathlib import Path

from srt_distill.adaptation import Adaptation
from srt_distill.adaptation import adapt as adapt_backbone
from srt_distill.backbone.options import BackboneOptions
from srt_distill.commands.parsing import CommandParser
from srt_distill.tasks import TASKS, Task

SHORT_HELP = f"""usage: srt-distill adapt --backbone NAME --images PATH [options]

Adapt a backbone to unlabeled images, export it, and say whether it helped: the whole job.

  srt-distill adapt --backbone vit_small_patch16_224.dino --images photos
  srt-distill adapt --backbone local-dir:my_vit --images clip.mp4 other.mp4 --budget 30m --output runs/clips
  srt-distill adapt --backbone vit_small_patch14_dinov2 --images 'shards/{{000..146}}.tar' --davis DAVIS

It looks at images, model and machine and says on one screen what it chose and why: device, precision, crops, batch,
steps, what is held out, and whether SRT changes these features enough to be worth distilling. Then it trains the
default recipe, exports the student proven equal, and writes a report with what held-out images tell of it. What it
chose is a config that `srt-distill fit --config` takes. Stopped or killed, the same command goes on.

options:
  --backbone NAME   a timm model, local-dir:<folder>, hf-hub:<repository>, a folder that `export` wrote, a run of `fit`
                    (--backbone.weights FILE, --backbone.position_embedding dino: see fit --help)
  --images PATH …   a folder of images, videos or tar shards; a text file with a path per line; videos; a data set that
                    `datasets` saved, a Parquet table, owner/name on the hub; DAVIS' layout (its train split)
  --output DIR      folder for everything (default: runs/<backbone>-<images>)
  --budget B        steps, such as 2000, or time for all of it: 90s, 30m, 1.5h (default: by the number of images)
  --TASK ROOT       labelled data, to judge the student on in the end: {", ".join(TASKS)}
                    (--TASK.OPTION for its options: see compare --help)
  --device D        auto, cpu, cuda and so on (default: auto)
  --seed N          of crops, order and shifts (default: 0)
  --progress false  say nothing of how far the work is
  --config FILE     YAML of these options

The output: model/ (a timm folder), report.html, config.yaml, run/ (checkpoints, TensorBoard), comparison/ (tasks)."""


def adapt(
    backbone: BackboneOptions,
    images: list[str],
    output: Path | None = None,
    budget: int | str | None = None,
    tasks: Sequence[Task] = (),
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> Adaptation:
    """Adapt a backbone to unlabeled images, export it, and say whether it helped: the whole job.

    Args:
        backbone: The model.
        images: What to adapt to: a folder, a file list, videos, a data set, shards; or several of these.
        output: Folder for everything; by default in runs/, named by backbone and images.
        budget: Steps such as 2000, or time such as `30m`; by default it goes by the number of images.
        tasks: Labelled tasks that the student is judged on in the end.
        device: `auto` takes the accelerator at hand, or the CPU.
        seed: Of crops, order and shifts.
        progress: Show how far the work is.

    Raises:
        SystemExit: If training was told to stop, with 128 + the number of the signal.
    """
    done = adapt_backbone(
        backbone, images, output, budget=budget, tasks=tasks, device=device, seed=seed, progress=progress
    )
    print("\n".join(["", *done.closing_lines]), flush=True)
    if done.stopped_by is not None:
        raise SystemExit(128 + done.stopped_by)
    return done


def run(arguments: Sequence[str]) -> None:
    """Parse the command line and adapt."""
    if {"-h", "--help"} & set(arguments):
        print(SHORT_HELP)
        return
    adapt(**CommandParser("adapt", adapt).read(arguments))
