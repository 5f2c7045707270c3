"""`chiasm bench wire`: how fast embeddings are fetched, against a bare ZeroMQ copy of the same bytes.

Two processes, over ipc and tcp, plain and encrypted. Both sides are measured in turn, round by round, so that whatever
else the machine does hits both; the median round counts.
"""

import itertools
import statistics
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from bench.json_option import json_option
from bench.report import write_report
from bench.wire_sides import (
    IN_FLIGHT,
    SEED,
    BareSide,
    Endpoints,
    Setting,
    Side,
    TransportSide,
    serving,
    time_alone,
    time_batch,
)
from chiasm.wire.keys import ClusterKeys

SETTINGS = (Setting("ipc", "auto"), Setting("ipc", "curve"), Setting("tcp", "auto"), Setting("tcp", "curve"))
SIZES = {"64 KiB": 64 << 10, "1 MiB": 1 << 20, "4.5 MiB": 9 << 19, "16 MiB": 16 << 20}
HEADLINE_SIZE = "4.5 MiB"  # a 336 x 336 image's embedding in LLaVA-1.5-7B
WARM_UPS = 3
MIN_FETCHES = 2 * IN_FLIGHT
MAX_FETCHES = 200


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    seconds: float  # of each side, size and setting in each round


QUICK = Effort(rounds=5, seconds=0.2)
FULL = Effort(rounds=9, seconds=0.6)


@dataclass(frozen=True)
class Round:
    """One side in one round, in seconds a fetch."""

    alone: list[float]  # one after the other
    batch: float  # `IN_FLIGHT` at a time


def measure_round(side: Side, nbytes: int, count: int) -> Round:
    """`count` fetches one after the other, and as many in flight together."""
    return Round([time_alone(side, nbytes) for _ in range(count)], time_batch(side, nbytes, count))


def measure(setting: Setting, endpoints: Endpoints, keys: ClusterKeys, effort: Effort, progress: Progress) -> list[Any]:
    """The series of one setting: a point for each size."""
    buffers = {nbytes: bytearray(nbytes) for nbytes in SIZES.values()}
    points = []
    with (
        closing(TransportSide(endpoints.transport, keys, setting.policy, buffers)) as ours,
        closing(BareSide(endpoints.bare, keys, setting.policy, buffers)) as bare,
    ):
        for size, nbytes in SIZES.items():
            task = progress.add_task(f"{setting.name}, {size}", total=effort.rounds)
            once = max(time_alone(side, nbytes) for side in (ours, bare) * WARM_UPS)
            count = max(MIN_FETCHES, min(MAX_FETCHES, round(effort.seconds / 2 / once)))
            rounds = []
            for number in range(effort.rounds):
                # Who goes first changes, as the second finds warmer caches.
                order: list[Side] = [ours, bare] if number % 2 else [bare, ours]
                found = {id(side): measure_round(side, nbytes, count) for side in order}
                rounds.append((found[id(ours)], found[id(bare)]))
                progress.advance(task)
            points.append(summarise(setting, size, nbytes, rounds))
    return points


def summarise(setting: Setting, size: str, nbytes: int, rounds: Sequence[tuple[Round, Round]]) -> dict[str, Any]:
    """One point of the series, from rounds of (transport, bare)."""
    ours = [mine for mine, _ in rounds]
    bare = [theirs for _, theirs in rounds]
    shares = sorted(theirs.batch / mine.batch for mine, theirs in rounds)
    delays = sorted(statistics.median(mine.alone) / statistics.median(theirs.alone) for mine, theirs in rounds)
    return {
        "setting": setting.name,
        "size": size,
        "nbytes": nbytes,
        "rounds": len(rounds),
        "fetches": sum(len(mine.alone) for mine in ours),
        **latencies("transport", ours),
        **latencies("bare", bare),
        "transport_mib_s": mib_s(nbytes, ours),
        "bare_mib_s": mib_s(nbytes, bare),
        "throughput_ratio": statistics.median(shares),
        "throughput_ratio_spread": [shares[0], shares[-1]],
        "latency_ratio": statistics.median(delays),
        "latency_ratio_spread": [delays[0], delays[-1]],
    }


def latencies(side: str, rounds: Sequence[Round]) -> dict[str, float]:
    """Milliseconds of one fetch alone, over all rounds."""
    cuts = statistics.quantiles(itertools.chain.from_iterable(r.alone for r in rounds), n=20, method="inclusive")
    return {f"{side}_p50_ms": cuts[9] * 1e3, f"{side}_p95_ms": cuts[18] * 1e3}


def mib_s(nbytes: int, rounds: Sequence[Round]) -> float:
    """Throughput of the median round's batch."""
    return nbytes / (1 << 20) / statistics.median(r.batch for r in rounds)


def headline(series: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The figures to quote: those of one image's embedding."""
    figures = {}
    for point in series:
        if point["size"] == HEADLINE_SIZE:
            for figure in ("transport_p50_ms", "transport_mib_s", "throughput_ratio"):
                figures[f"{point['setting']}_{figure}"] = point[figure]
    return figures


def as_table(series: Sequence[dict[str, Any]]) -> Table:
    """What a person reads."""
    table = Table(
        title="fetches of embeddings against bare ZeroMQ (ratios, transport to bare: median round, lowest–highest)"
    )
    for column in ("setting", "size", "p50 ms", "p95 ms", "MiB/s", "bare p50", "bare p95", "bare MiB/s"):
        table.add_column(column, justify="left" if column in ("setting", "size") else "right")
    table.add_column("throughput ratio", justify="right")
    table.add_column("latency ratio", justify="right")
    for point in series:
        low, high = point["throughput_ratio_spread"]
        quick, slow = point["latency_ratio_spread"]
        table.add_row(
            point["setting"],
            point["size"],
            f"{point['transport_p50_ms']:.2f}",
            f"{point['transport_p95_ms']:.2f}",
            f"{point['transport_mib_s']:.0f}",
            f"{point['bare_p50_ms']:.2f}",
            f"{point['bare_p95_ms']:.2f}",
            f"{point['bare_mib_s']:.0f}",
            f"{point['throughput_ratio']:.2f}, {low:.2f}–{high:.2f}",
            f"{point['latency_ratio']:.2f}, {quick:.2f}–{slow:.2f}",
        )
    return table


@click.command()
@click.option("--quick", is_flag=True, help="Measure for less than a minute.")
@json_option
def wire(quick: bool, json_file: Path | None) -> None:
    """Fetch embeddings between two processes: throughput and latency, against bare ZeroMQ."""
    effort = QUICK if quick else FULL
    keys = ClusterKeys.generate()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    series = []
    with (
        serving(SETTINGS, tuple(SIZES.values()), keys) as endpoints,
        Progress(*columns, TimeRemainingColumn(), console=console) as progress,
    ):
        for setting, served in zip(SETTINGS, endpoints, strict=True):
            series += measure(setting, served, keys, effort, progress)
    Console(width=None if sys.stdout.isatty() else 140).print(as_table(series))
    if json_file is not None:
        command = "chiasm bench wire" + (" --quick" if quick else "")
        write_report(json_file, name="wire", command=command, headline=headline(series), series=series, seeds=[SEED])


if __name__ == "__main__":
    wire()
