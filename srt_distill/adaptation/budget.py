"""How long an adaptation may take: steps, or time.

Shape legend: none.
"""

import re
from dataclasses import dataclass

UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

AFTER_TRAINING = 60.0
"""Seconds of a budget of time that are kept for export, comparison of latencies and report; at most half of it."""


@dataclass(frozen=True)
class Budget:
    """What a run may cost.

    Attributes:
        steps: Of the optimiser, where they were given.
        seconds: Where time was given.
    """

    steps: int | None = None
    seconds: float | None = None

    @property
    def training_seconds(self) -> float | None:
        """Time that is left to training."""
        return None if self.seconds is None else max(self.seconds - AFTER_TRAINING, self.seconds / 2)


def parse_budget(text: str | int | None) -> Budget:
    """Read a budget: `2000` for steps; `90s`, `30m`, `1.5h` for time.

    Args:
        text: What was given; None leaves it to the number of images.

    Raises:
        ValueError: If it is neither, or not above 0.
    """
    if text is None:
        return Budget()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?", str(text).strip())
    number = float(match[1]) if match else 0.0
    if match is None or number <= 0 or (not match[2] and number != int(number)):
        raise ValueError(f"budget {text!r} is neither steps nor time; give steps such as 2000, or time: 90s, 30m, 1.5h")
    return Budget(seconds=number * UNITS[match[2]]) if match[2] else Budget(steps=int(number))


def in_words(seconds: float) -> str:
    """Write a duration as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
