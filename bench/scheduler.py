"""`chiasm bench scheduler`: what a decision of the scheduling core costs, and how that grows.

The core runs alone, without sockets: events in, decisions out, each timed by itself. A decision is its answer to one
event. Every point is one cluster whose decoders are full and whose queue keeps its length, under text and images in
equal numbers; the points are measured in turn, round by round, and the median round counts.
"""

import gc
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.report import write_report
from chiasm.config import SchedulerConfig
from chiasm.messages import Decode, DecodeDone, Encode, EncodeDone, Register, Submit
from chiasm.nouns import Embedding, Item, ItemUuid, RequestId, Role, WorkerId
from scheduler.core import Core, Event

SEED = 1
ENCODERS = 0.25  # share of the workers
SLOTS, KV_TOKENS = 8, 100_000
RATES = (500.0, 1000.0, 1600.0)  # tokens/s: three kinds of card
TENANTS = 20
WORKERS = (10, 100, 1000, 10_000)
QUEUES = (100, 10_000, 1_000_000)
QUICK_QUEUES = (100, 10_000)
HEADLINE = (1000, 10_000)  # workers, and requests queued beside the measurement
EVENTS, QUICK_EVENTS = 20_000, 4000  # in a round
ROUNDS = 5
MEMORY_FROM = 100_000  # queued requests: below, what a process takes is not told by its size

console = Console(highlight=False)


@dataclass
class Played:
    """A cluster that is played: its core, and what gateways and engines have still to report."""

    workers: int
    queued: int
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    encoding: list[Encode] = field(default_factory=list)
    decoding: list[Decode] = field(default_factory=list)
    submitted: int = 0
    now: float = 0.0
    nanoseconds: list[int] = field(default_factory=list)
    bytes_queued: int = 0

    def __post_init__(self) -> None:
        self.core = Core(SchedulerConfig(queue_limit=2 * self.queued + 1000, look_ahead=2))
        encoders = max(1, round(ENCODERS * self.workers))
        for index in range(self.workers):
            role = Role.ENCODER if index < encoders else Role.DECODER
            url, kv_tokens = f"http://{index}", 0 if role is Role.ENCODER else KV_TOKENS
            register = Register(WorkerId(f"w{index}"), role, "node", url, SLOTS, kv_tokens, self.chance.choice(RATES))
            self.core.handle(register, self.now)

    def fill(self) -> None:
        """Submit requests until so many wait."""
        before = psutil.Process().memory_info().rss
        while self.core.status(RequestId(""), self.now).withheld < self.queued:
            for _ in range(max(self.workers, self.queued // 20)):
                self.submit()
                self.encode_all()
        self.bytes_queued = psutil.Process().memory_info().rss - before

    def play(self, events: int) -> list[int]:
        """Nanoseconds of each of so many decisions, while as many requests come as end."""
        self.nanoseconds = []
        while len(self.nanoseconds) < events:
            self.submit()
            self.encode_all()
            self.finish_one()
        return self.nanoseconds

    def submit(self) -> None:
        """A request of text or of one image, in turn."""
        self.submitted += 1
        items: tuple[Item, ...] = ()
        if self.submitted % 2:
            items = (Item(ItemUuid(f"u{self.submitted}"), "image", self.chance.randint(64, 2048)),)
        request, tenant = RequestId(f"r{self.submitted}"), f"t{self.submitted % TENANTS}"
        sizes = self.chance.randint(16, 1024), self.chance.randint(16, 512)
        self.handle(Submit(request, items, *sizes, 1e9, tenant))

    def encode_all(self) -> None:
        """Every encoder answers."""
        while self.encoding:
            one = self.encoding.pop()
            embedding = Embedding(one.uuid, one.uuid, "image", {}, one.url, (256, 2048), "bfloat16")
            self.handle(EncodeDone(one.request, one.worker, embedding, self.chance.uniform(0.1, 0.4)))

    def finish_one(self) -> None:
        """Some answer is complete."""
        index = self.chance.randrange(len(self.decoding))
        self.decoding[index], self.decoding[-1] = self.decoding[-1], self.decoding[index]
        one = self.decoding.pop()
        self.handle(DecodeDone(one.request, one.worker, self.chance.randint(16, 512), self.chance.uniform(1, 4)))

    def handle(self, event: Event) -> None:
        """One event, timed."""
        self.now += 1e-4
        begun = time.perf_counter_ns()
        decisions = self.core.handle(event, self.now)
        self.nanoseconds.append(time.perf_counter_ns() - begun)
        for decision in decisions:
            if isinstance(decision, Encode):
                self.encoding.append(decision)
            elif isinstance(decision, Decode):
                self.decoding.append(decision)


@click.command()
@click.option("--quick", is_flag=True, help="Shorter queues and fewer events.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures to this file.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw them into this file (.svg or .png).")
def scheduler(quick: bool, json_file: Path | None, plot: Path | None) -> None:
    """Time the scheduling core: decisions a second, and what they cost with more workers and longer queues."""
    series = _measure(QUICK_QUEUES if quick else QUEUES, QUICK_EVENTS if quick else EVENTS)
    _show(series)
    [headline] = [row for row in series if (row["workers"], row["queued"]) == HEADLINE]
    if json_file is not None:
        figures = {
            "decisions_per_s_1000_workers": headline["decisions_per_s"],
            "decision_p99_ms_1000_workers": headline["p99_ms"],
        }
        command = "chiasm bench scheduler" + (" --quick" if quick else "")
        write_report(json_file, name="scheduler", command=command, headline=figures, series=series, seeds=[SEED])
    if plot is not None:
        _plot(series, plot)


def _measure(queues: Sequence[int], events: int) -> list[dict[str, Any]]:
    series = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for queued in queues:
            task = progress.add_task(f"{queued:,} queued", total=len(WORKERS) * ROUNDS)
            clusters = [Played(workers, queued) for workers in WORKERS]
            rounds: list[list[list[int]]] = [[] for _ in clusters]
            for cluster in clusters:
                cluster.fill()
            gc.freeze()  # else the collector walks a million waiting requests in the midst of a decision
            for _ in range(ROUNDS):
                for cluster, measured in zip(clusters, rounds, strict=True):
                    measured.append(cluster.play(events))
                    progress.advance(task)
            gc.unfreeze()
            series += [_point(cluster, measured) for cluster, measured in zip(clusters, rounds, strict=True)]
            del clusters, cluster
    return series


def _point(cluster: Played, rounds: list[list[int]]) -> dict[str, Any]:
    means = [statistics.mean(one) for one in rounds]
    every = sorted(nanoseconds for one in rounds for nanoseconds in one)
    point: dict[str, Any] = {
        "workers": cluster.workers,
        "queued": cluster.queued,
        "decisions_per_s": round(1e9 / statistics.median(means)),
        "slowest_round_per_s": round(1e9 / max(means)),
        "p50_ms": round(every[len(every) // 2] / 1e6, 4),
        "p99_ms": round(every[len(every) * 99 // 100] / 1e6, 4),
    }
    if cluster.queued >= MEMORY_FROM:
        point["bytes_per_queued_request"] = round(cluster.bytes_queued / cluster.queued)
    return point


def _show(series: list[dict[str, Any]]) -> None:
    table = Table("workers", "queued", "decisions/s", "slowest round", "P50 ms", "P99 ms", "bytes a queued request")
    for row in series:
        memory = row.get("bytes_per_queued_request")
        table.add_row(
            f"{row['workers']:,}",
            f"{row['queued']:,}",
            f"{row['decisions_per_s']:,}",
            f"{row['slowest_round_per_s']:,}",
            f"{row['p50_ms']:.3f}",
            f"{row['p99_ms']:.3f}",
            "" if memory is None else f"{memory:,}",
        )
    console.print(table)


def _plot(series: list[dict[str, Any]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for queued in sorted({row["queued"] for row in series}):
        rows = [row for row in series if row["queued"] == queued]
        axes.plot(
            [row["workers"] for row in rows],
            [1e6 / row["decisions_per_s"] for row in rows],
            marker="o",
            label=f"{queued:,} requests queued",
        )
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers")
    axes.set_ylabel("mean time of a decision, microseconds")
    axes.set_title("The cost of a scheduling decision")
    axes.legend()
    figure.savefig(file)
    pyplot.close(figure)
