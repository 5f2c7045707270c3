"""Where over the grid of objectives an arrangement is worth it, and where it loses. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.serve.reach import Bound

Row = dict[str, Any]

NONE = "–"
SIGNS = {Bound.NONE: "", Bound.AT_LEAST: "≥ ", Bound.AT_MOST: "≤ "}
SURELY = "*"  # behind a ratio whose whole interval lies on one side of 1
OPEN = "both"  # keep the objectives at every rate that was measured, so that nothing is told


def told(value: float, bound: Bound) -> str:
    """A ratio as it may be printed."""
    return OPEN if bound is Bound.OPEN else f"{SIGNS[bound]}{value:.2f}"


def spread(value: float, low: float | None, high: float | None) -> str:
    """A figure with its interval, if it has one, as it may be printed."""
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def grids(curve: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """For each objective of the time to first token, the ratios over those of the gaps, as they may be printed.

    `curve` are an arrangement's rows of goodput; a dash stands where nobody keeps the objectives at any rate, and a
    star behind a ratio whose whole interval lies on one side of 1.
    """
    for ttft_ms in dict.fromkeys(row["ttft_objective_ms"] for row in curve):
        rows = [row for row in curve if row["ttft_objective_ms"] == ttft_ms]
        cells = {f"itl_{row['itl_objective_ms']:g}_ms": _cell(row) for row in rows}
        yield {"ttft_objective_ms": ttft_ms, **cells}


def _cell(row: Mapping[str, Any]) -> str:
    surely = row.get("vs_best_mono_high", math.inf) < 1 or row.get("vs_best_mono_low", 0.0) > 1
    return f"{row.get('vs_best_mono_told', NONE)}{SURELY if surely else ''}"


def loses(curve: Sequence[Mapping[str, Any]]) -> Row:
    """At which pairs of objectives the ratio is below 1, of how many that tell on which side of 1 it is. At how many
    the whole interval is, and at how many it is a bound; and at how many the whole interval is above 1.
    """
    told_rows = [row for row in curve if _is_decided(row)]
    below = [row for row in told_rows if row["vs_best_mono"] < 1]
    by_ttft: dict[float, list[str]] = {}
    for row in below:
        cell = f"{row['itl_objective_ms']:g} ({row['vs_best_mono_told']})"
        by_ttft.setdefault(row["ttft_objective_ms"], []).append(cell)
    where = "; ".join(f"TTFT {ttft_ms:g} ms with ITL {', '.join(cells)} ms" for ttft_ms, cells in by_ttft.items())
    return {
        "below_1": len(below),
        "interval_below_1": sum(row.get("vs_best_mono_high", math.inf) < 1 for row in below),
        "interval_above_1": sum(row.get("vs_best_mono_low", 0.0) > 1 for row in told_rows),
        "bound_below_1": sum(row["vs_best_mono_bound"] == Bound.AT_MOST for row in below),
        "told": len(told_rows),
        "where": where or "nowhere",
    }


def _is_decided(row: Mapping[str, Any]) -> bool:
    """A bound that lies on the other side of 1 than what it bounds may, tells nothing."""
    match row.get("vs_best_mono_bound", Bound.OPEN):
        case Bound.NONE:
            return True
        case Bound.AT_LEAST:
            return bool(row["vs_best_mono"] >= 1)
        case Bound.AT_MOST:
            return bool(row["vs_best_mono"] < 1)
        case _:
            return False
