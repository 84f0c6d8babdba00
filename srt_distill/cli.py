"""The command line: names the commands and hands over to the one that is called.

Shape legend: none. Nothing heavy is imported here, so that `srt-distill --help` answers at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "fit": "adapt a backbone to unlabeled images by distilling its SRT features into its weights",
    "cache": "compute the SRT targets of fixed training crops once, for fit to read",
    "export": "write the adapted backbone out as a timm folder, proven equal to the student",
    "evaluate": "score any backbone, in one pass or under SRT, on DAVIS label propagation",
    "compare": "teacher, full SRT and student side by side on DAVIS: table, latency, pictures",
    "overlay": "draw the masks that evaluate or compare wrote over their videos: sheets, MP4 and GIF",
    "visualize": "draw the features of any backbone as pictures: PCA colours, noise, SRT against resizing",
}
"""Every command, each a function `run` in the module of `srt_distill.commands` of its name."""

USAGE = f"""usage: srt-distill COMMAND [options]

Adapt a pre-trained Vision Transformer to your own unlabeled images: the same model back, with better dense features.

commands:
{chr(10).join(f"  {name:<10} {what}" for name, what in COMMANDS.items())}

A first run:
  srt-distill fit --config configs/distill/<one>.yaml
  srt-distill export --checkpoint runs/<one> --output checkpoints/<name>
  srt-distill compare --teacher <timm name> --student local-dir:checkpoints/<name> --data <DAVIS root> --output <dir>

`srt-distill COMMAND --help` explains the options of a command.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        arguments: Words after the program's name; those of the process by default.

    Returns:
        The exit status: 0 done, 1 refused or failed with a message, 2 no such command.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    name, *rest = arguments
    if name == "--version":
        from importlib.metadata import version

        print(version("srt-distill"))
        return 0
    if name not in COMMANDS:
        print(f"srt-distill: no command {name!r}; choose from {', '.join(COMMANDS)} (see --help)", file=sys.stderr)
        return 2
    run = importlib.import_module(f"srt_distill.commands.{name}").run
    try:
        run(rest)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        if os.environ.get("SRT_DISTILL_TRACEBACK"):
            raise
        print(f"srt-distill {name}: {error}\n(SRT_DISTILL_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1
    return 0
