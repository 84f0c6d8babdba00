"""The page that recipes/benchmarks/breadth.py writes: one line a family, then what was refused and what failed.

Shape legend: none.
"""

import statistics
from typing import Any

import timm
import torch
from breadth_families import FAMILIES, RELEASES, release_names


def format_line(title: str, rows: list[dict[str, Any]]) -> str:
    """Write a family's line of the table."""
    good = [row for row in rows if row["status"] == "pass"]
    cells = [title, str(len(good)), str(len(rows)), "", "", "", "", f"`{min(row['name'] for row in rows)}`"]
    if good:
        num_flexible = sum(row["any_size"] for row in good)
        cells[3] = {0: "no", len(good): "yes"}.get(num_flexible, f"{num_flexible} of {len(good)}")
        cells[4] = ", ".join(map(str, sorted({stride for row in good for stride in row["strides"]})))
        cells[5] = f"{max(row['oracle_error'] for row in good):.0e}"
        cells[6] = f"{statistics.median(row['loss_after'] / row['loss_before'] for row in good):.2f}"
    return f"| {' | '.join(cells)} |"


def format_table(rows: list[dict[str, Any]]) -> str:
    """Write the Markdown page: one line per family, then what was refused and what failed."""
    num_passed = sum(row["status"] == "pass" for row in rows)
    lines = [
        f"# {num_passed} of {len(rows)} timm names pass",
        "",
        "Made by `python recipes/benchmarks/breadth.py` (its docstring says what a name goes through; timm "
        f"{timm.__version__}, torch {torch.__version__}, CPU). Models are randomly initialised and made small; "
        "results.jsonl has a line per name. Any size: the others take only the image size that they are built for. "
        "Error to oracle: the largest. Loss: after 20 steps, as a share of the first; the median. Lines in italics "
        "count names of the lines above that weights were released for, as `vit_small_patch16_224.dino` says.",
        "",
        "| family | pass | of | any size | strides | error to oracle | loss | for example |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups = [(family.title, [row for row in rows if row["family"] == family.title]) for family in FAMILIES]
    for title, pattern in RELEASES.items():
        names = release_names(pattern)
        groups.append((f"*{title}*", [row for row in rows if row["name"] in names]))
    lines += [format_line(title, members) for title, members in groups if members]
    for status in ("refused", "failed"):
        bad = [row for row in rows if row["status"] == status]
        if bad:
            lines += ["", f"{status.capitalize()}:", "", "| name | reason |", "|---|---|"]
            lines += [f"| `{row['name']}` | {' '.join(row['reason'].split())[:300].replace('|', '/')} |" for row in bad]
    return "\n".join(lines) + "\n"
