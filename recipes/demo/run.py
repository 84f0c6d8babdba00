"""The whole job on data and a backbone that come with the project: videos, distillation, export, comparison.

Shape legend: none.

Claim:    the demo's backbone, adapted to unlabeled videos, follows the objects of unseen videos better in one pass than
          before; SRT, at 49 passes a frame, is what it learned from
Command:  make demo   (or: python recipes/demo/run.py)
Takes:    less than 10 minutes on 2 CPU cores; a second call goes on where the first was stopped
Writes:   runs/demo/ with videos, run, student and report
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from make_videos import make_demo_videos

from srt_distill.cli import main as srt_distill

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path("runs/demo")
CONFIG = Path("configs/distill/demo.yaml")
TEACHER = Path("checkpoints/demo")
SCORE = "J&F-Mean"


def run_demo(folder: Path, config: Path) -> None:
    """Run all steps from the repository's root; finished ones are not done again.

    Args:
        folder: Where everything is written; the config must name the run and the videos in it.
        config: Of the distillation.

    Raises:
        SystemExit: If a step fails; it has said why.
    """
    videos, run, student, report = (folder / name for name in ("videos", "distillation", "student", "report"))
    _say(f"1/4 videos with exact masks, from photographs that come with the packages -> {videos}")
    make_demo_videos(videos)
    _say(f"2/4 distilling SRT into the backbone on unlabeled training videos -> {run}")
    _step("fit", "--config", config, "--trainer.default_root_dir", run, "--resume", "auto")
    _say(f"3/4 exporting the student -> {student}")
    _step("export", "--checkpoint", run, "--output", student)
    _say(f"4/4 teacher, SRT and student on validation videos of other photographs -> {report}")
    words = ["--teacher", f"local-dir:{TEACHER}", "--student", student, "--davis", videos]
    _step("compare", *words, "--output", report, "--davis.scale", "0.5", "--srt.views_per_batch", "7")
    print(judge(json.loads((report / "results.json").read_text())))


def judge(results: dict) -> str:
    """One line on whether teacher < student ≤ SRT holds.

    Args:
        results: What `compare` wrote.

    Returns:
        The line.
    """
    teacher, srt, student = (row["scores"][SCORE] for row in results["tasks"][0]["rows"])
    gains = f"over the teacher's {SCORE} of {teacher:.4f}: SRT {srt - teacher:+.4f}, student {student - teacher:+.4f}"
    if teacher < student <= srt:
        return f"teacher < student <= SRT holds; {gains}"
    if teacher < srt < student:
        return f"the student is above SRT, so teacher < student <= SRT does not hold; {gains}"
    return f"teacher < student <= SRT does NOT hold in this run; {gains}"


def _step(command: str, *options: str | Path) -> None:
    status = srt_distill([command, *map(str, options)])
    if status:
        sys.exit(status)


def _say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="The whole job on data and a backbone that come with the project.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where everything is written")
    parser.add_argument("--config", type=Path, default=CONFIG, help="of the distillation")
    options = parser.parse_args()
    with contextlib.chdir(ROOT):
        run_demo(options.folder, options.config)


if __name__ == "__main__":
    main()
