"""The command line: names the commands and hands over to the one that is called.

Shape legend: none. Nothing heavy is imported here, so that `srt-distill --help` answers at once.
"""

import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

COMMANDS = {
    "adapt": "the whole job: adapt a backbone to images, export it, and say whether it helped",
    "fit": "adapt a backbone to unlabeled images by distilling its SRT features into its weights",
    "cache": "compute the SRT targets of fixed training crops once, for fit to read",
    "export": "write the adapted backbone out as a timm folder, proven equal to the student",
    "evaluate": "score any backbone, in one pass or under SRT, on DAVIS label propagation",
    "compare": "teacher, full SRT and student side by side on DAVIS: table, latency, pictures",
    "overlay": "draw the masks that evaluate or compare wrote over their videos: sheets, MP4 and GIF",
    "embed": "write the features of any backbone to a file, dense or one vector per image",
    "visualize": "draw the features of any backbone as pictures: PCA colours, noise, SRT against resizing",
}
"""Every command, each a function `run` in the module of `srt_distill.commands` of its name."""

USAGE = f"""usage: srt-distill COMMAND [options]

Adapt a pre-trained Vision Transformer to your own unlabeled images: the same model back, with better dense features.

commands:
{chr(10).join(f"  {name:<10} {what}" for name, what in COMMANDS.items())}

A first run:
  srt-distill adapt --backbone <timm name> --images <folder>

Its parts:
  srt-distill fit --model.backbone <timm name> --data.source ImageFolder --data.source.root <folder>
  srt-distill export --checkpoint runs/srt_distill --output checkpoints/<name>
  srt-distill compare --teacher <timm name> --student checkpoints/<name> --davis <DAVIS root> --output <folder>

`srt-distill COMMAND --help` explains the options of a command.
"""

DONE, REFUSED, USAGE_ERROR, SIGNALLED = 0, 1, 2, 128
"""Exit statuses; SIGNALLED plus its number for a signal. docs/command_line.md has them as a table."""

AFTER_STOP = {
    "adapt": "the same command again goes on",
    "embed": "the same command again goes on",
    "fit": "--resume last goes on from the last checkpoint, if there is one yet",
    "cache": "the same command again goes on",
    "evaluate": "the same command again goes on; what is finished is kept",
    "compare": "the same command again goes on; what is finished is kept",
    "export": "nothing is written, and an older export stays",
}
"""What becomes of a command that was stopped."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: Words after the program's name; those of the process by default.

    Returns:
        The exit status: 0 done, 1 refused or failed with a message, 2 no such command, 130 and 143 stopped by Ctrl-C
        and TERM.

    Raises:
        SystemExit: With such a status, where a parser or a training that was told to stop ends the program.
    """
    with _listening(), _heard_or_not():
        return _run(arguments)


def _run(arguments: Sequence[str] | None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return DONE
    name, *rest = arguments
    if name == "--version":
        from importlib.metadata import version

        print(version("srt-distill"))
        return DONE
    if name not in COMMANDS:
        print(f"srt-distill: no command {name!r}; choose from {', '.join(COMMANDS)} (see --help)", file=sys.stderr)
        return USAGE_ERROR
    try:
        importlib.import_module(f"srt_distill.commands.{name}").run(rest)
    except KeyboardInterrupt as stop:
        by = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        after = AFTER_STOP.get(name, "what was written stays")
        print(f"\nsrt-distill {name}: stopped by {by.name}; {after}", file=sys.stderr)
        return SIGNALLED + by
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("SRT_DISTILL_TRACEBACK"):
            raise
        print(f"srt-distill {name}: {error}\n(SRT_DISTILL_TRACEBACK=1 shows where)", file=sys.stderr)
        return REFUSED
    return DONE


class Terminated(KeyboardInterrupt):
    """TERM, taken as Ctrl-C is: everything on the way is cleaned up."""


@contextmanager
def _listening() -> Iterator[None]:
    """Turn TERM into an exception while the block runs; in the main thread, which alone can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker, which has nothing to say
            os._exit(SIGNALLED + number)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _heard_or_not() -> Iterator[None]:
    """Go on where what reads the output has ended (`srt-distill … | head`): its lines are lost, the work is not."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Unheard(before[0]), _Unheard(before[1])  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


class _Unheard:
    """A stream that falls silent when its reader is gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
