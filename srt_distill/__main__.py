"""`python -m srt_distill`: the command line."""

import sys

from srt_distill.cli import main

if __name__ == "__main__":
    sys.exit(main())
