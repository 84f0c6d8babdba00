"""Charts of a comparison as SVG that takes the page's colours and width.

Shape legend: none.

Text and axes are drawn in the colour of the surrounding text, so one chart serves light and dark pages.
"""

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

COLORS = ("#868e99", "#dd7a0b", "#2f86eb", "#2ba36e", "#a06cf0", "#dc4c83", "#a88a2a", "#1fa3b0")
"""One per candidate, in order; of middling lightness, so that they stand out on white and on near-black."""

_INK = "#010203"  # stands for the page's text colour, and occurs nowhere else
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.linewidth": 0.6,
}


def item_chart(scores: Mapping[str, Mapping[str, float]], label: str, item: str) -> str:
    """Draw dots of all candidates on one line per item.

    Args:
        scores: By candidate, then by item; all candidates have the same items.
        label: Name of the score.
        item: What an item is, such as "video".

    Returns:
        SVG.
    """
    items = list(next(iter(scores.values())))
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"items-{label}-{item}"}):
        figure, axes = _axes(4.6, 0.7 + 0.3 * len(items))
        for y, name in enumerate(items):
            values = [by_item[name] for by_item in scores.values()]
            axes.plot([min(values), max(values)], [y, y], color=_INK, alpha=0.25, linewidth=1.2, zorder=1)
        offsets = np.linspace(-0.18, 0.18, len(scores))  # dots of equal value must not hide each other
        for color, offset, by_item in zip(_cycle(len(scores)), offsets, scores.values(), strict=True):
            values = [by_item[name] for name in items]
            axes.plot(values, np.arange(len(items)) + offset, "o", color=color, markersize=5.5, zorder=2)
        axes.set_yticks(range(len(items)), items)
        axes.set_ylim(len(items) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(axis="x", color=_INK, alpha=0.12, linewidth=0.6)
        axes.tick_params(length=0)
        return _svg(figure, f"{label} of each candidate on each {item}")


def gain_chart(scores: Mapping[str, Mapping[str, float]], reference: str, label: str, item: str) -> str:
    """Draw the gain of each candidate on every item, sorted: how many gain, how many lose, and how much.

    Args:
        scores: By candidate, then by item.
        reference: The candidate that gains are relative to.
        label: Name of the score.
        item: What an item is, such as "image".

    Returns:
        SVG.
    """
    base = scores[reference]
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"gains-{label}-{item}"}):
        figure, axes = _axes(4.6, 2.6)
        for color, (name, by_item) in zip(_cycle(len(scores)), scores.items(), strict=True):
            gains = sorted(value - base[key] for key, value in by_item.items())
            if name != reference:
                axes.plot(np.linspace(0, 100, len(gains)), gains, color=color, linewidth=1.6)
        axes.axhline(0, color=_INK, alpha=0.4, linewidth=0.8)
        axes.set_xlabel(f"{item}s, sorted by gain (%)")
        axes.set_ylabel(f"{label} over {reference}")
        axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
        return _svg(figure, f"sorted gains in {label} over {reference}")


def cost_chart(milliseconds: Sequence[float], scores: Sequence[float], label: str) -> str:
    """Draw quality against time per image, one dot per candidate.

    Args:
        milliseconds: Time per image by candidate, on a logarithmic axis.
        scores: Quality by candidate.
        label: Name of the score.

    Returns:
        SVG.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "cost"}):
        figure, axes = _axes(4.6, 2.4)
        for color, x, y in zip(_cycle(len(scores)), milliseconds, scores, strict=True):
            axes.plot([x], [y], "o", color=color, markersize=9)
        axes.set_xscale("log")
        axes.margins(0.12, 0.25)
        axes.set_xlabel("milliseconds per image (features only)")
        axes.set_ylabel(label)
        few_decades = max(milliseconds) < 30 * min(milliseconds)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,), numticks=8))
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(color=_INK, alpha=0.12, linewidth=0.6)
        return _svg(figure, f"{label} against time per image")


def curve_chart(name: str, curves: Mapping[str, Sequence[float]], label: str) -> str:
    """Draw the course of a score through one item, such as J over the frames of a video.

    Args:
        name: Of the item.
        curves: Values by candidate.
        label: What the curves show.

    Returns:
        SVG.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"curves-{name}"}):
        figure, axes = _axes(3.2, 1.9)
        for color, values in zip(_cycle(len(curves)), curves.values(), strict=True):
            axes.plot(range(1, len(values) + 1), values, color=color, linewidth=1.6, alpha=0.9)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_ylim(-0.02, 1.02)
        axes.set_yticks([0, 0.5, 1])
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.6)
        return _svg(figure, f"{label}: {name}")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Make axes without the upper and right line."""
    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _cycle(count: int) -> list[str]:
    """List colours of as many candidates."""
    return [COLORS[i % len(COLORS)] for i in range(count)]


def _svg(figure: Figure, description: str) -> str:
    """Make the figure an element for a page: no fixed size, ink as the page's text, no names that could clash."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace(_INK, "currentColor")
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    head, body = svg.split(">", 1)
    width = re.findall(r' width="([\d.]+)pt"', head)
    head = re.sub(r' (width|height)="[\d.]+pt"', "", head)
    return f'{head} role="img" aria-label="{html.escape(description)}" style="max-width:{width[0]}pt">{body.strip()}'
