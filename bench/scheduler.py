"""`chiasm bench scheduler`: what a decision of the scheduling core costs, and how that grows.

The core runs alone, without sockets: events in, decisions out. A decision is its answer to one event.
Every point is one cluster whose decoders are full and whose queue keeps its length: requests come, text and images in
equal numbers, encoders answer, and as many answers end as requests come. Of five events two are a Submit, one is an
EncodeDone and two are a DecodeDone; heartbeats, which cost next to nothing, are left out. The messages are made, and
what is decided is taken apart, while no clock runs.

Decisions a second are of processor time, so that what else the machine does counts as little as it can; the
percentiles are of elapsed time. The garbage collector is set as the scheduler's own process sets it. The points are
measured in turn, round by round, and the median round counts.
"""

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

from bench.json_option import json_option
from bench.report import write_report
from chiasm.config import SchedulerConfig
from chiasm.messages import Decode, DecodeDone, Encode, EncodeDone, Register, Submit
from chiasm.nouns import Embedding, Item, ItemUuid, RequestId, Role, WorkerId
from scheduler.core import Core
from scheduler.events import Decision, Event
from scheduler.garbage import sparing_what_waits

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
BATCH = 20  # requests that come, and that end, between two looks at the processor's clock, which is slow to read
ROUNDS = 5
MEMORY_FROM = 100_000  # queued requests: below, what a process takes is not told by its size

console = Console(highlight=False)


@dataclass
class Round:
    """Some decisions: processor time of all together, and elapsed time of each."""

    processor_ns: int = 0
    elapsed_ns: list[int] = field(default_factory=list)

    @property
    def mean_ns(self) -> float:
        """Processor time of one."""
        return self.processor_ns / len(self.elapsed_ns)


class Played:
    """A cluster that is played: its core, and what gateways and engines have still to report."""

    def __init__(self, workers: int, queued: int) -> None:
        self.workers = workers
        self.queued = queued
        self.bytes_queued = 0
        self.now = 0.0
        config = SchedulerConfig(queue_limit=2 * queued + 1000)
        self.core = Core(config, stealing=config.stealing)
        self._chance = random.Random(SEED)
        self._encoding: list[Encode] = []
        self._decoding: list[Decode] = []
        self._submitted = 0
        encoders = max(1, round(ENCODERS * workers))
        for index in range(workers):
            role = Role.ENCODER if index < encoders else Role.DECODER
            url, kv_tokens = f"http://{index}", 0 if role is Role.ENCODER else KV_TOKENS
            register = Register(WorkerId(f"w{index}"), role, "node", url, SLOTS, kv_tokens, self._chance.choice(RATES))
            self.core.handle(register, self.now)

    def fill(self) -> None:
        """Submit requests until so many wait."""
        before = psutil.Process().memory_info().rss
        while self.core.status(RequestId(""), self.now).withheld < self.queued:
            for _ in range(max(self.workers, self.queued // 20) // BATCH + 1):
                self._handle([self._submit() for _ in range(BATCH)])
                self._handle(self._encoded())
        self.bytes_queued = psutil.Process().memory_info().rss - before

    def play(self, events: int) -> Round:
        """At least so many decisions, while as many requests come as end."""
        played = Round()
        while len(played.elapsed_ns) < events:
            batch: list[Event] = [self._submit() for _ in range(BATCH)]
            batch += self._encoded()
            batch += [self._decoded() for _ in range(min(BATCH, len(self._decoding)))]
            self._chance.shuffle(batch)  # they are of different requests, so they come in any order
            processor_ns, elapsed_ns = self._handle(batch)
            played.processor_ns += processor_ns
            played.elapsed_ns += elapsed_ns
        return played

    def _submit(self) -> Submit:
        """A request of text or of one image, in turn."""
        self._submitted += 1
        items: tuple[Item, ...] = ()
        if self._submitted % 2:
            items = (Item(ItemUuid(f"u{self._submitted}"), "image", self._chance.randint(64, 2048)),)
        request, tenant = RequestId(f"r{self._submitted}"), f"t{self._submitted % TENANTS}"
        sizes = self._chance.randint(16, 1024), self._chance.randint(16, 512)
        return Submit(request, items, *sizes, 1e9, tenant, stealable=not items)

    def _encoded(self) -> list[EncodeDone]:
        """Every encoder answers."""
        done = []
        for one in self._encoding:
            embedding = Embedding(one.uuid, one.uuid, "image", {}, one.url, (256, 2048), "bfloat16")
            done.append(EncodeDone(one.request, one.worker, embedding, self._chance.uniform(0.1, 0.4), 1 << 20))
        self._encoding.clear()
        return done

    def _decoded(self) -> DecodeDone:
        """Some answer is complete."""
        index = self._chance.randrange(len(self._decoding))
        self._decoding[index], self._decoding[-1] = self._decoding[-1], self._decoding[index]
        one = self._decoding.pop()
        return DecodeDone(one.request, one.worker, self._chance.randint(16, 512), self._chance.uniform(1, 4))

    def _handle(self, events: Sequence[Event]) -> tuple[int, list[int]]:
        """Nanoseconds of processor time for all of these events, and elapsed ones for each."""
        answers: list[list[Decision]] = []
        elapsed_ns = []
        begun = time.thread_time_ns()
        for event in events:
            self.now += 1e-4
            before = time.perf_counter_ns()
            answers.append(self.core.handle(event, self.now))
            elapsed_ns.append(time.perf_counter_ns() - before)
        processor_ns = time.thread_time_ns() - begun
        for decision in (each for answer in answers for each in answer):
            if isinstance(decision, Encode):
                self._encoding.append(decision)
            elif isinstance(decision, Decode):
                self._decoding.append(decision)
        return processor_ns, elapsed_ns


@click.command()
@click.option("--quick", is_flag=True, help="Shorter queues and fewer events.")
@json_option
@click.option("--plot", type=click.Path(path_type=Path), help="Draw them into this file (.svg or .png).")
def scheduler(quick: bool, json_file: Path | None, plot: Path | None) -> None:
    """Time the scheduling core: decisions a second, and what they cost with more workers and longer queues.

    Without --quick a million requests wait in each of four clusters at once, which takes about 7 GB of memory.
    """
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
            task = progress.add_task(f"{queued:,} queued", total=len(WORKERS) * (1 + ROUNDS))
            with sparing_what_waits():
                clusters = [Played(workers, queued) for workers in WORKERS]
                for cluster in clusters:
                    cluster.fill()
                    progress.advance(task)
                rounds: list[list[Round]] = [[] for _ in clusters]
                for _ in range(ROUNDS):
                    for cluster, measured in zip(clusters, rounds, strict=True):
                        measured.append(cluster.play(events))
                        progress.advance(task)
                series += [_point(cluster, measured) for cluster, measured in zip(clusters, rounds, strict=True)]
            del clusters, cluster
    return series


def _point(cluster: Played, rounds: list[Round]) -> dict[str, Any]:
    every = sorted(elapsed_ns for one in rounds for elapsed_ns in one.elapsed_ns)
    point: dict[str, Any] = {
        "workers": cluster.workers,
        "queued": cluster.queued,
        "decisions_per_s": round(1e9 / statistics.median(one.mean_ns for one in rounds)),
        "slowest_round_per_s": round(1e9 / max(one.mean_ns for one in rounds)),
        "p50_ms": round(every[len(every) // 2] / 1e6, 4),
        "p99_ms": round(every[len(every) * 99 // 100] / 1e6, 4),
        "longest_ms": round(every[-1] / 1e6, 4),
    }
    if cluster.queued >= MEMORY_FROM:
        point["bytes_per_queued_request"] = round(cluster.bytes_queued / cluster.queued)
    return point


def _show(series: list[dict[str, Any]]) -> None:
    table = Table("workers", "queued", "decisions/s", "slowest round", "P50 ms", "P99 ms", "bytes each")
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
    """Against workers and against the queue, both logarithmic: what grows with the logarithm is a straight line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for axes, along, other in zip(panels, ("workers", "queued"), ("queued", "workers"), strict=True):
        for value in sorted({row[other] for row in series}):
            rows = [row for row in series if row[other] == value]
            cost_us = [1e6 / row["decisions_per_s"] for row in rows]
            axes.plot([row[along] for row in rows], cost_us, marker="o", label=f"{value:,} {other}")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("requests queued" if along == "queued" else along)
        axes.legend()
    panels[0].set_ylabel("mean processor time of a decision, microseconds")
    figure.suptitle("The cost of a scheduling decision")
    figure.savefig(file)
    pyplot.close(figure)
