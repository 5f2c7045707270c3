"""`chiasm bench profile`: what profiling tells of a running cluster, and what it costs."""

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import msgspec
from aiohttp import ClientError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.json_option import json_option
from bench.model import build_bench_model
from bench.profiling_cost import SEED, Added, Cost, add_up, measure_cost, sum_error
from bench.report import write_report
from bench.stealing_sides import TEXT_KEY, Cluster, starting_cluster
from bench.stolen_timeline import NoneReturned, stolen_and_returned
from bench.topologies.program import NotServing
from chiasm.client import EndpointError, get_json
from chiasm.profile.roofline import judged_machines, roofline
from chiasm.telemetry.timelines.collected import ClusterRecords
from chiasm.telemetry.timelines.view import plot_timeline

PAIRS, QUICK_PAIRS = 16, 1
REQUESTS, QUICK_REQUESTS = 200, 20

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@click.command()
@click.option("--quick", is_flag=True, help="One pair of bursts, and few requests: enough to see that it works.")
@json_option
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the roofline here (.svg or .png).")
@click.option(
    "--stolen",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the timeline of a request that was stolen, paused and given back here (.svg or .png).",
)
def profile(quick: bool, json_file: Path | None, plot: Path | None, stolen: Path | None) -> None:
    """Measure what profiling costs, how well a request's phases add up, and what engines' steps are bound by.

    Two clusters of one encoder, with a text engine on its core, and one decoder serve a model of 120 M parameters with
    random weights, on two cores. They differ in telemetry.timelines alone, which is 0 in one of them. It takes 16 GB of
    memory and 20 minutes. Nothing else should run meanwhile.

    \b
    overhead_throughput_on_vs_off
        output tokens/s of bursts of text and images, with profiling to without
    phase_sum_error
        what the phases' self times are short of, or beyond, as a part of what the
        client waited; 95 % of the requests have less
    encode_..., decode_...
        of steps that did only that: part of the machine's peak, and FLOPs for
        each byte
    """
    pairs, requests = (QUICK_PAIRS, QUICK_REQUESTS) if quick else (PAIRS, REQUESTS)
    try:
        with console.status("making the bench model, unless that is done ..."):
            model = build_bench_model()
        with starting_cluster(model, "yield") as on, starting_cluster(model, "yield", {"timelines": 0}) as off:
            with console.status("starting two clusters ..."):
                on.wait_ready()
                off.wait_ready()
            machines = judged_machines(on.target(TEXT_KEY).url, TEXT_KEY, console)
            began = time.time()
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=console) as progress:
                task = progress.add_task("bursts, with profiling and without", total=pairs)
                cost = measure_cost(on, off, pairs, lambda: progress.advance(task))
                task = progress.add_task("requests whose phases are added up", total=requests)
                added = add_up(on, requests, lambda: progress.advance(task))
            rows = roofline(_records(on, began), machines, plot, console)
            with console.status("waiting for a request that is stolen and given back ...") if stolen else nullcontext():
                course = stolen_and_returned(on) if stolen else None
    except (NotServing, EndpointError, NoneReturned, ValueError, ClientError) as error:
        sys.exit(str(error))
    except ExceptionGroup as errors:  # of `Unanswered`, by the tasks that asked
        sys.exit(f"Nothing is reported, for not every request was answered: {errors.exceptions[0]}")
    if course is not None and stolen is not None:
        plot_timeline(course, stolen)
    figures = headline(cost, added, rows)
    for name, figure in figures.items():
        console.print(f"{name:36}{figure}")
    if json_file is not None:
        command = "chiasm bench profile" + (" --quick" if quick else "")
        series = [*_of_cost(cost), *_of_sums(added), *rows]
        write_report(json_file, name="profile", command=command, headline=figures, series=series, seeds=[SEED])


def headline(cost: Cost, added: Sequence[Added], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The figures to quote."""
    return {
        "phase_sum_error": round(sum_error(added), 5),
        "overhead_throughput_on_vs_off": round(cost.ratio, 4),
        **roofline_figures(rows),
    }


def _records(cluster: Cluster, since: float) -> dict[Any, Any]:
    target = cluster.target(TEXT_KEY)
    told = get_json(target.url, f"/v1/chiasm/trace?since={since!r}", target.key)
    found = msgspec.convert(told, ClusterRecords)
    return {one.worker: one.records for one in found.workers if one.records is not None}


def _of_cost(cost: Cost) -> list[dict[str, Any]]:
    pairs = zip(cost.on, cost.off, strict=True)
    return [
        {"what": "burst", "pair": number, "tokens_per_s_on": round(on, 2), "tokens_per_s_off": round(off, 2)}
        for number, (on, off) in enumerate(pairs, 1)
    ]


def _of_sums(added: Sequence[Added]) -> list[dict[str, Any]]:
    """The means of what requests' phases took."""
    phases = {phase: statistics.mean(one.phases_s[phase] for one in added) for phase in added[0].phases_s}
    means = {f"{phase}_s": round(seconds, 5) for phase, seconds in phases.items()}
    waited = statistics.mean(one.waited_s for one in added)
    unattributed = statistics.mean(one.unattributed_s for one in added)
    return [{"what": "sums", "requests": len(added), "waited_s": waited, "unattributed_s": unattributed, **means}]


def roofline_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the halves are bound by (`telemetry.live.rooflines.running_rows`), of steps with one phase alone.

    Of several kinds of machines, the one that worked longest on the phase counts.

    Raises:
        ValueError: there was no such step of one of them: there must have been images, and streams without prompts
            beside them.
    """
    encode, decode = (_longest(rows, phase) for phase in ("encode", "decode"))
    return {
        "encode_pct_of_compute_peak": round(100 * encode["part_of_compute_peak"], 2),
        "decode_pct_of_bandwidth_peak": round(100 * decode["part_of_bandwidth_peak"], 2),
        "encode_intensity_flop_per_byte": round(encode["intensity_flop_per_byte"], 2),
        "decode_intensity_flop_per_byte": round(decode["intensity_flop_per_byte"], 2),
    }


def _longest(rows: Sequence[Mapping[str, Any]], phase: str) -> Mapping[str, Any]:
    found = [row for row in rows if row["phase"] == phase]
    if not found:
        raise ValueError(f"no engine did nothing but {phase} in a step")
    return max(found, key=lambda row: float(row["seconds"]))
