"""`chiasm bench stealing`: what idle encoders add to text throughput by stealing, and what images pay for it.

Three arrangements of the bench model on two cores, with equal arguments for every engine:

    two engines    a text engine on each core, asked directly: the ceiling
    stealing       a cluster of one encoder and one decoder, the encoder's core with a text engine as well (`yield`)
    off            the same cluster without stealing

A *burst* of text alone is answered by each of them in turn, round by round. Gateway, scheduler and Ray run on the same
two cores as the engines, which is a part of what a cluster costs; those of a cluster that has nothing to do run too,
while the others are measured. Then images come at random times while more text waits than the decoder can take, in turn
for `stealing` and for `off`. Never more than five engines are up, so that memory for five is enough.
"""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.json_option import json_option
from bench.model import build_bench_model
from bench.percentiles import P99_FROM, named, percentile, percentile_of_histogram, tail
from bench.processor_time import processor_seconds
from bench.report import write_report
from bench.stealing_plot import plot_stealing
from bench.stealing_sides import (
    IMAGE_KEY,
    TEXT_KEY,
    Cluster,
    cores,
    starting_cluster,
    starting_engines,
    targets,
)
from bench.stealing_traffic import Mixture, burst, mixed, question
from bench.streams import Stream, Target, Unanswered
from bench.topologies.program import START_TIMEOUT_S, NotServing
from chiasm.engine import EngineFailed

SEED = 1
SETTLE_S = 2.0  # an engine polls for a second after its last step
WARM_UP = 24  # requests: more than one engine takes
WARM_UP_TOKENS = 16  # each
TEXT_STREAMS = 24  # beside images: three times what a decoder runs at once
IMAGES_PER_S = 0.6  # an encode takes some 0.4 s of a laptop's core, and to prefill it takes longer
IMAGES = 80
TWO_ENGINES, STEALING, OFF = "two engines", "stealing", "off"

T = TypeVar("T")

console = Console(highlight=False)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int  # of bursts, for each pair that is compared
    requests: int  # in a burst
    blocks: int  # of mixed traffic, for each of the two clusters
    mixture: Mixture


QUICK = Plan(rounds=1, requests=12, blocks=1, mixture=Mixture(TEXT_STREAMS, IMAGES_PER_S, 2.0, 10.0))


def full(images: int) -> Plan:
    """About so many images for each cluster."""
    return Plan(4, 48, 2, Mixture(TEXT_STREAMS, IMAGES_PER_S, 15.0, images / 2 / IMAGES_PER_S))


@click.command()
@click.option("--quick", is_flag=True, help="One short round of everything: enough to see that it works.")
@click.option(
    "--images",
    default=IMAGES,
    show_default=True,
    type=click.IntRange(20),
    help=f"Images for each of the two clusters, {IMAGES_PER_S:g} a second. From {P99_FROM:,} on P99 is reported; "
    "below, P95.",
)
@json_option
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw them here (.svg or .png).")
def stealing(quick: bool, images: int, json_file: Path | None, plot: Path | None) -> None:
    """Measure work stealing on real engines: text throughput with it and without, and what images pay.

    A model of 120 M parameters with random weights is served by a cluster of one encoder and one decoder on a core
    each. It takes two cores, however many there are, 16 GB of memory, and 20 minutes, a third of them for starting
    engines. Nothing else should run meanwhile.

    \b
    text_burst_vs_two_engines
        throughput of a burst of text, to that of two text engines asked directly
    text_burst_throughput_on_vs_off
        the same, to that of the cluster without stealing
    image_ttft_p95_on_vs_off
        time to first token of images among text, with stealing to without
    mixed_text_throughput_on_vs_off
        what the text beside them gains
    mixed_text_itl_p99_on_vs_off
        its inter-token latency, which has in it how long stolen streams stood
        still
    pause_to_encode_p50_ms, ..._p95_ms
        from when a text engine was told to stand still for an image until it did.
        The encode is under way by then; so long at most it shares its core
    """
    if len(cores()) < 2:
        raise click.UsageError("This compares engines on two cores, and there is one. Cure: a machine with more.")
    plan = QUICK if quick else full(images)
    try:
        with console.status("making the bench model, unless that is done ..."):
            model = build_bench_model()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            run = Run(plan, progress)
            run.measure(model)
    except (EngineFailed, NotServing) as error:
        sys.exit(str(error))
    except Unanswered as error:
        sys.exit(f"Nothing is reported, for not every request was answered: {error}")
    figures = headline(run)
    _show(run, figures)
    if json_file is not None:
        options = " --quick" if quick else f" --images {images}" if images != IMAGES else ""
        command = f"chiasm bench stealing{options}"
        write_report(json_file, name="steal", command=command, headline=figures, series=run.series, seeds=[SEED])
    if plot is not None:
        plot_stealing(run.series, {name: run.ttfts_ms(name) for name in (STEALING, OFF)}, run.pauses, plot)


class Run:
    """One run of everything, and what it has found: `series` for the report, and what percentiles are taken of."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.series: list[dict[str, Any]] = []
        self.pauses: dict[float, int] = {}  # how many took at most so many seconds
        self.images: dict[str, list[Stream]] = {STEALING: [], OFF: []}
        self.text_itls_s: dict[str, list[float]] = {STEALING: [], OFF: []}
        self._plan = plan
        self._progress = progress
        self._task = progress.add_task("", total=2 + 4 * plan.rounds + 2 * plan.blocks)

    def ttfts_ms(self, arrangement: str) -> list[float]:
        """Of its images, the shortest first."""
        return sorted(1000 * stream.ttft_s for stream in self.images[arrangement])

    def measure(self, model: Path) -> None:
        """All of it.

        Raises:
            EngineFailed, NotServing: something did not start.
            Unanswered: a request failed.
        """
        with starting_cluster(model, "yield") as thieving:
            with starting_engines(model) as engines:
                with self._step("starting a cluster that steals, and two text engines"):
                    for engine in engines:
                        engine.wait_ready(START_TIMEOUT_S)
                    thieving.wait_ready()
                self._bursts({TWO_ENGINES: targets(engines), STEALING: [thieving.target(TEXT_KEY)]}, thieving)
            with starting_cluster(model, "off") as plain:
                with self._step("starting a cluster that does not"):
                    plain.wait_ready()
                self._bursts({OFF: [plain.target(TEXT_KEY)], STEALING: [thieving.target(TEXT_KEY)]}, thieving)
                self._mixtures({STEALING: thieving, OFF: plain})
                self.pauses = thieving.pauses()

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        self._progress.update(self._task, description=what)
        yield
        self._progress.advance(self._task)

    def _bursts(self, sides: Mapping[str, Sequence[Target]], thieving: Cluster) -> None:
        """The same questions for every side in turn, others in each round. Thus each pair has a name: the first's."""
        against = next(iter(sides))
        dice = random.Random(f"{SEED} warming up {against}")
        for asked in sides.values():
            _run(burst(asked, [{**question(dice), "max_tokens": WARM_UP_TOKENS} for _ in range(WARM_UP)]))
        for number in range(self._plan.rounds):
            dice = random.Random(f"{SEED} {against} {number}")
            bodies = [question(dice) for _ in range(self._plan.requests)]
            for name, asked in sorted(sides.items(), reverse=number % 2 == 1):
                time.sleep(SETTLE_S)
                with self._step(f"a burst of text: {name}, round {number + 1}"):
                    stolen, (engines_s, others_s) = thieving.counters()["stolen"], processor_seconds()
                    burnt = _run(burst(asked, bodies))
                    after = processor_seconds()
                self.series.append(
                    {
                        "traffic": "burst",
                        "against": against,
                        "arrangement": name,
                        "round": number + 1,
                        "tokens_per_s": round(burnt.tokens_per_s, 2),
                        "seconds": round(burnt.seconds, 2),
                        "stolen": thieving.counters()["stolen"] - stolen,
                        # Cores that each kept busy: what engines compute, and all that is around them.
                        "engine_cores": round((after[0] - engines_s) / burnt.seconds, 3),
                        "other_cores": round((after[1] - others_s) / burnt.seconds, 3),
                    }
                )

    def _mixtures(self, clusters: Mapping[str, Cluster]) -> None:
        for block in range(self._plan.blocks):
            for name in (STEALING, OFF) if block % 2 == 0 else (OFF, STEALING):
                time.sleep(SETTLE_S)
                cluster = clusters[name]
                before = cluster.counters()
                with self._step(f"images among text: {name}, block {block + 1}"):
                    text, images = cluster.target(TEXT_KEY), cluster.target(IMAGE_KEY)
                    found = _run(mixed(text, images, self._plan.mixture, f"{SEED} block {block}"))
                self.images[name] += found.images
                self.text_itls_s[name] += found.text_itls_s
                counted = {key: value - before[key] for key, value in cluster.counters().items()}
                self.series.append(
                    {
                        "traffic": "mixed",
                        "arrangement": name,
                        "block": block + 1,
                        "text_tokens_per_s": round(found.text_tokens_per_s, 2),
                        **_of_text(found.text_itls_s),
                        **_of_images(found.images),
                        **{key: counted[key] for key in ("stolen", "paused", "returned")},
                    }
                )
        for name, streams in self.images.items():
            both = _of_text(self.text_itls_s[name]) | _of_images(streams)
            self.series.append({"traffic": "mixed", "arrangement": name, "block": "all", **both})


def _run(traffic: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(traffic)
    except ExceptionGroup as failed:  # of a TaskGroup: the first is what the others were cancelled for
        raise failed.exceptions[0] from None


def _of_text(itls_s: Sequence[float]) -> dict[str, float]:
    """Inter-token latency of text streams, and the longest that one of them stood still."""
    milliseconds = {"p50": percentile(itls_s, 0.5), "p99": percentile(itls_s, 0.99), "max": max(itls_s)}
    return {f"text_itl_{name}_ms": round(1000 * seconds, 1) for name, seconds in milliseconds.items()}


def _of_images(images: Sequence[Stream]) -> dict[str, float]:
    """Percentiles over requests with an image: to the first token, to the post of its encode, and of the encode."""
    times = {
        "image_ttft": [1000 * stream.ttft_s for stream in images],
        "encode_queue": [stream.phases_ms["encode_queue"] for stream in images],
        "encode": [stream.phases_ms["encode"] for stream in images],
    }
    found: dict[str, float] = {"images": len(images)}
    for name, values in times.items():
        for share in (0.5, tail(len(values))):
            found[f"{name}_{named(share)}_ms"] = round(percentile(values, share), 1)
    return found


def ratios(series: Sequence[Mapping[str, Any]], against: str) -> list[float]:
    """Throughput of a burst with stealing to that of what it was compared with, round by round."""
    rows = [row for row in series if row.get("against") == against]
    rate = {(row["arrangement"], row["round"]): row["tokens_per_s"] for row in rows}
    rounds = range(1, 1 + max(row["round"] for row in rows))
    return [rate[STEALING, number] / rate[against, number] for number in rounds]


def headline(run: Run) -> dict[str, float]:
    """The figures to quote."""
    text = {
        name: statistics.mean(row["text_tokens_per_s"] for row in _blocks(run.series, name)) for name in (STEALING, OFF)
    }
    on, off = run.ttfts_ms(STEALING), run.ttfts_ms(OFF)
    share = tail(min(len(on), len(off)))
    figures = {
        "text_burst_vs_two_engines": statistics.median(ratios(run.series, TWO_ENGINES)),
        "text_burst_throughput_on_vs_off": statistics.median(ratios(run.series, OFF)),
        f"image_ttft_{named(share)}_on_vs_off": percentile(on, share) / percentile(off, share),
        "mixed_text_throughput_on_vs_off": text[STEALING] / text[OFF],
        "mixed_text_itl_p99_on_vs_off": percentile(run.text_itls_s[STEALING], 0.99)
        / percentile(run.text_itls_s[OFF], 0.99),
    }
    if count := max(run.pauses.values(), default=0):
        for share in (0.5, tail(count)):
            figures[f"pause_to_encode_{named(share)}_ms"] = 1000 * percentile_of_histogram(run.pauses, share)
    return {name: round(figure, 3) for name, figure in figures.items()}


def _blocks(series: Sequence[Mapping[str, Any]], arrangement: str) -> list[Mapping[str, Any]]:
    return [row for row in series if row["arrangement"] == arrangement and "text_tokens_per_s" in row]


def _show(run: Run, figures: Mapping[str, float]) -> None:
    rows: list[Mapping[str, Any]] = [row for row in run.series if row["traffic"] == "burst"]
    columns = {"round": "round", "tokens_per_s": "tokens/s", "stolen": "stolen"}
    _table("burst of text", rows, columns | {"engine_cores": "cores: engines", "other_cores": "all else"})
    rows = [*_blocks(run.series, STEALING), *_blocks(run.series, OFF)]
    columns = {"block": "block", "text_tokens_per_s": "text tokens/s", "images": "images"}
    columns |= {"text_itl_p99_ms": "ITL P99 ms", "text_itl_max_ms": "longest ms", "image_ttft_p50_ms": "TTFT P50 ms"}
    columns |= {"stolen": "stolen", "paused": "paused", "returned": "returned"}
    _table("images among text", rows, columns)
    for against in (TWO_ENGINES, OFF):
        rounds = ratios(run.series, against)
        console.print(f"burst, stealing to {against}: {min(rounds):.3f} to {max(rounds):.3f} in {len(rounds)} rounds")
    for name, figure in figures.items():
        console.print(f"{name:<36}{figure:g}")


def _table(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    table = Table(title, *columns.values())
    for row in rows:
        table.add_row(row["arrangement"], *(str(row[name]) for name in columns))
    console.print(table)
