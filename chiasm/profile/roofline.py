"""`chiasm profile --roofline`: what the engines' steps had to do, against what their machines can do at most."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from chiasm.nouns import WorkerId
from chiasm.profile.machines import ask_machines, with_peaks
from chiasm.telemetry.live.machine import Machine
from chiasm.telemetry.live.rooflines import roofs, running_rows
from chiasm.telemetry.records import EngineRecords
from chiasm.telemetry.signature.roofline import above_the_peak
from chiasm.telemetry.signature.tables import plot_roofline, running_table


def judged_machines(endpoint: str, api_key: str | None, console: Console) -> dict[WorkerId, Machine]:
    """What the engines run on, with peaks, measured now where they are not known. Who is left out is printed.

    To be called before the time that is looked at: peaks cannot be measured on engines with work.

    Raises:
        EndpointError: the gateway does not answer, or answers an error.
    """
    asked = ask_machines(endpoint, api_key)
    for name, reason in asked.silent.items():
        console.print(f"{name} is left out: it does not tell what it runs on: {reason}", markup=False)
    return with_peaks(asked.machines, endpoint, api_key, lambda text: console.print(text, markup=False))


def roofline(
    records: Mapping[WorkerId, EngineRecords], machines: Mapping[WorkerId, Machine], plot: Path | None, console: Console
) -> list[dict[str, Any]]:
    """Print it, and draw it to the file `plot` (svg, png); returns its rows. `records` are each by its engine's clock.

    Raises:
        ValueError: nothing is known of what engines did, or FLOPs and bytes are not known of their model.
        ModuleNotFoundError, OSError: it cannot be drawn (`plot_roofline`).
    """
    judged = {name: machines[name] for name in records if name in machines}
    rows = running_rows({name: records[name] for name in judged}, judged)
    if not rows:
        raise ValueError(
            "No engine whose machine is known remembers a step with a known beginning. Send requests meanwhile; "
            "telemetry.timelines must not be 0."
        )
    show(rows, judged, console)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        plot_roofline(rows, roofs(judged), "What the engines did", plot)
    return rows


def show(rows: Sequence[Mapping[str, Any]], machines: Mapping[WorkerId, Machine], console: Console) -> None:
    """For people."""
    console.print(running_table(rows))
    for name, peaks in roofs(machines).items():
        console.print(
            f"{name}: {peaks.flops_per_s / 1e12:.3g} TFLOP/s in a matrix product, {peaks.copy_bytes_per_s / 1e9:.4g} "
            f"GB/s in a copy, {peaks.read_bytes_per_s / 1e9:.4g} GB/s in a sum: {peaks.balance:.3g} FLOP/byte",
            markup=False,
        )
    for one in rows:
        console.print(f"{one['phase']}: {one['bound']}: {one['why']}", markup=False)
        if one["known_streams"] < 1:
            console.print(
                f"{one['phase']}: how long their contexts were is known of {100 * one['known_streams']:.0f} % of the "
                "streams, those that have ended, and taken to be the same of the others"
            )
        for excess in above_the_peak(one):
            console.print(
                f"[bold]More than can be[/]: {one['phase']}: {excess}. Either that was measured while the machine had "
                "other work, or the weights lie in a cache"
            )
