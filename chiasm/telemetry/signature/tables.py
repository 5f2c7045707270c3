"""The signature for people: tables in the terminal, and a picture of the roofline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from chiasm.telemetry.signature.peaks import Peaks

Row = Mapping[str, Any]  # of `roofline.row`; for `running_table`, of `live.rooflines.running_rows`

COLOURS = {"encode": "tab:red", "prefill": "tab:orange", "decode": "tab:blue"}
MIXED_COLOUR = "tab:purple"  # of steps with several phases in them


def signature_table(rows: Sequence[Row]) -> Table:
    """Phases of a request, with their share of its time."""
    table = Table(title="Phase signature", title_justify="left")
    for column in ("phase", "run", "of a request", "share"):
        table.add_column(column)
    _add_rates(table)
    for one in rows:
        table.add_row(
            one["phase"],
            _run(one),
            _time(one["request_seconds"]),
            f"{100 * one['share']:.0f} %",
            *_rates(one),
        )
    return table


def points_table(rows: Sequence[Row]) -> Table:
    """Everything that was measured."""
    table = Table(title="All points", title_justify="left")
    for column in ("phase", "run", "one run", "± %", "eager"):
        table.add_column(column)
    _add_rates(table)
    for one in rows:
        spread = 50 * (one["seconds_max"] - one["seconds_min"]) / one["seconds"]
        eager = "" if one["eager_seconds"] is None else _time(one["eager_seconds"])
        table.add_row(one["phase"], _run(one), _time(one["seconds"]), f"{spread:.0f}", eager, *_rates(one))
    return table


def running_table(rows: Sequence[Row]) -> Table:
    """What running engines did (`telemetry.live.rooflines`), narrow enough for a terminal of 80 columns."""
    table = Table(title="What the engines did", title_justify="left", box=SIMPLE_HEAD, show_lines=True)
    table.add_column("phase, engines, steps,\na step on average")
    for column in ("time,\nshare", "TFLOP/s,\n% of peak", "GB/s,\n% of peak", "FLOP/\nbyte"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for one in rows:
        flops, nbytes, compute, bandwidth, intensity = _basic_rates(one)
        table.add_row(
            f"[bold]{one['phase']}[/]\n{one['workers']}: {one['rounds']:,}\n{one['run']}",
            f"{_time(one['seconds'])}\n{100 * one['share']:.0f} %",
            f"{flops}\n{compute} %",
            f"{nbytes}\n{bandwidth} %",
            intensity,
            one["bound"],
        )
    return table


def _add_rates(table: Table) -> None:
    for column in ("TFLOP/s", "GB/s", "% compute", "% bandwidth", "FLOP/byte", "counters", "time goes to"):
        table.add_column(column, justify="right")
    table.add_column("verdict")


def _rates(one: Row) -> tuple[str, ...]:
    return (*_basic_rates(one), _counters(one), _division(one), one["bound"])


def _basic_rates(one: Row) -> tuple[str, ...]:
    return (
        f"{one['flops_per_s'] / 1e12:.3g}",
        f"{one['bytes_per_s'] / 1e9:.3g}",
        f"{100 * one['part_of_compute_peak']:.1f}",
        f"{100 * one['part_of_bandwidth_peak']:.1f}",
        f"{one['intensity_flop_per_byte']:.3g}",
    )


def _run(one: Row) -> str:
    return "\n".join(filter(None, (one["run"], one["variant"])))


def _counters(one: Row) -> str:
    """Those that stand for what the columns beside them compute."""
    columns = (("tensor", "gpm_tensor_active"), ("DRAM", "gpm_dram_active"), ("busy", "nvml_gpu_busy"))
    said = [f"{name} {100 * one[key]:.0f} %" for name, key in columns if key in one]
    return "\n".join(said)


def _division(one: Row) -> str:
    columns = (("products", "product_seconds"), ("attention", "attention_seconds"), ("rest", "rest_seconds"))
    return "\n".join(f"{name} {100 * one[key] / one['seconds']:.0f} %" for name, key in columns if key in one)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def plot_roofline(rows: Sequence[Row], roofs: Mapping[str, Peaks], title: str, file: Path) -> None:
    """Draw every point, and the roof of each machine by its name; the format goes by the file's ending (svg, png).

    Points are numbered, and the legend beside the picture says what each is.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: `file` cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 5), layout="constrained")
    across = [one["intensity_flop_per_byte"] for one in rows] + [peaks.balance for peaks in roofs.values()]
    left, right = min(across) / 3, max(across) * 3
    for name, peaks in roofs.items():
        _draw_roof(axes, name, peaks, left, right)
    for number, one in enumerate(rows, 1):
        x, y = one["intensity_flop_per_byte"], one["flops_per_s"] / 1e12
        colour = COLOURS.get(one["phase"], MIXED_COLOUR)
        said = ", ".join(filter(None, (one["run"], one["variant"])))
        axes.plot(
            x, y, "o", color=colour, markerfacecolor="none" if one["variant"] else colour,
            label=f"{number:2}  {one['phase']}: {said}",
        )  # fmt: skip
        # Neighbours of one phase lie side by side, variants of one run above each other.
        place = (8, -3) if one["variant"] else (0, 6) if number % 2 else (0, -13)
        axes.annotate(
            str(number), (x, y), xytext=place, textcoords="offset points", ha="center", fontsize=8, color=colour
        )
    axes.set(xscale="log", yscale="log", xlim=(left, right), xlabel="FLOP/byte", ylabel="TFLOP/s", title=title)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(file)
    pyplot.close(figure)


def _draw_roof(axes: Any, name: str, peaks: Peaks, left: float, right: float) -> None:
    roof = [left, peaks.balance, right]
    axes.plot(roof, [min(peaks.flops_per_s, x * peaks.bytes_per_s) / 1e12 for x in roof], color="black", lw=1.5)
    axes.annotate(
        f"{name} {peaks.flops_per_s / 1e12:.3g} TFLOP/s".strip(), (right, peaks.flops_per_s / 1e12), xytext=(-4, 4),
        textcoords="offset points", ha="right", fontsize=8,
    )  # fmt: skip
    axes.axvline(peaks.balance, color="grey", lw=0.8, ls=":")
    axes.annotate(
        f"{peaks.balance:.3g} FLOP/byte", (peaks.balance, 0.02), xycoords=("data", "axes fraction"),
        rotation=90, ha="right", color="grey", fontsize=8,
    )  # fmt: skip
