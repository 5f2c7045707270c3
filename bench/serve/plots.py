"""The curves of a comparison."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.load.goodput import Objectives

Row = Mapping[str, Any]
PANEL = (4.6, 3.4)  # inches
BOUNDS = ("", "_low", "_high")


def plot_curves(series: Sequence[Row], objectives: Mapping[str, Objectives], title: str, file: Path) -> None:
    """A column for each workload: goodput over the ITL objective, over the TTFT objective, and TTFT over the rate.

    Each of the first two holds the other objective where `objectives` has it for that workload.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    workloads = list(dict.fromkeys(row["workload"] for row in series))
    size = (PANEL[0] * len(workloads), PANEL[1] * 3)
    figure, panels = pyplot.subplots(3, len(workloads), figsize=size, layout="constrained", squeeze=False)
    for column, workload in enumerate(workloads):
        rows = [row for row in series if row["workload"] == workload]
        _goodput(panels[0][column], rows, "itl", ("ttft", objectives[workload].ttft_ms))
        _goodput(panels[1][column], rows, "ttft", ("itl", objectives[workload].itl_ms))
        _ttft(panels[2][column], rows)
        panels[0][column].set_title(workload)
    panels[0][0].legend(fontsize="small")
    figure.suptitle(title)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    pyplot.close(figure)


def _goodput(axes: Any, rows: Sequence[Row], over: str, held: tuple[str, float]) -> None:
    other, value = held
    xs: Sequence[float] = ()
    percentiles = next(row["percentiles"] for row in rows if row["what"] == "goodput")
    for name, mine in _by_arrangement(rows, "goodput"):
        points = sorted(
            (row[f"{over}_objective_ms"], *(row.get(f"goodput{bound}_per_s", row["goodput_per_s"]) for bound in BOUNDS))
            for row in mine
            if math.isclose(row[f"{other}_objective_ms"], value, abs_tol=1e-3)  # rows are rounded
        )
        xs, ys, low, high = zip(*points, strict=True)
        [line] = axes.plot(xs, ys, marker=".", label=name)
        axes.fill_between(xs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    top = max(row["rate_per_s"] for row in rows if row["what"] == "rate")
    axes.axhline(top, color="grey", linestyle=":", label="highest rate measured")
    axes.set_xscale("log")
    axes.set_xticks(xs, [f"{each:g}" for each in xs])
    axes.minorticks_off()
    axes.set_xlabel(f"{over.upper()} objective, ms ({other.upper()} ≤ {value:g} ms; {percentiles})")
    axes.set_ylabel("goodput, requests/s")
    axes.set_ylim(bottom=0)


def _ttft(axes: Any, rows: Sequence[Row]) -> None:
    for name, mine in _by_arrangement(rows, "rate"):
        points = sorted(
            (row["rate_per_s"], row["median_ttft_ms"], tail_ms)
            for row in mine
            for key, tail_ms in row.items()
            if key.endswith("_due_to_first_token_ms") and "median_ttft_ms" in row
        )
        if points:
            xs, middle, high = zip(*points, strict=True)
            [line] = axes.plot(xs, middle, marker=".", label=name)
            axes.plot(xs, high, linestyle=":", color=line.get_color())
    axes.set_yscale("log")
    axes.set_xlabel("requests/s")
    axes.set_ylabel("TTFT, ms: P50, and the tail dotted")


def _by_arrangement(rows: Sequence[Row], what: str) -> list[tuple[str, list[Row]]]:
    names = dict.fromkeys(row["arrangement"] for row in rows)
    return [(name, [row for row in rows if row["arrangement"] == name and row["what"] == what]) for name in names]
