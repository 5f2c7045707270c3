"""The same requests to the same server, once by this load generator and once by `vllm bench serve`, in turn.

Both send what `foreign.Alike` holds; one of them gets it back to front, so that no cache of the server's helps the
second. They come evenly, so that the draw of arrivals does not hide what is looked for.
"""

import random
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress
from rich.table import Table

from bench.load.arrivals import gamma
from bench.load.asking import Endpoint
from bench.load.driver import Planned, drive
from bench.load.figures import figures
from bench.load.slopes import LEAST, Undetermined, ratio
from bench.load.workloads import Workload
from bench.load_generators import GeneratorFailed, Load, Target, run_load
from bench.serve.foreign import Alike, OnTheSame, alike

TOKENS = 32  # of every answer
ROUNDS, QUICK_ROUNDS = 5, 1
NUMBER, QUICK_NUMBER = 24, 8  # requests of a tool in a round
SHARE = 0.5  # of what the server answers when they come at once: the rate, unless it is told
TIMEOUT_S = 1800.0  # of a run of vllm bench serve

Row = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """What both are to do."""

    workload: Workload
    number: int  # requests of a tool in a round
    rounds: int
    seed: int
    burstiness: float
    rate: float | None = None  # requests/s; None: `SHARE` of what the server is seen to do


@dataclass
class Found:
    """Each round's figures."""

    rate: float
    ours: list[Row] = field(default_factory=list)
    theirs: list[Row] = field(default_factory=list)


def cross_check(endpoint: Endpoint, tokenizer: str, check: Check, progress: Progress) -> Found:
    """Both tools in turn; each comes first in every other round.

    Raises:
        GeneratorFailed: vllm bench serve gave no report, or a tool had no answer to a request.
        BadWorkload: vllm bench serve cannot send such requests.
    """
    task = progress.add_task("measuring what the server can do", total=1 + 2 * check.rounds)
    rate = _rate(endpoint, check) if check.rate is None else check.rate
    progress.advance(task)
    found = Found(rate)
    for number in range(check.rounds):
        requests = alike(_bodies(check, f"round {number}"), TOKENS)
        for ours in (True, False) if number % 2 == 0 else (False, True):
            tool = "chiasm bench serve" if ours else "vllm bench serve"
            progress.update(task, description=f"{tool}, round {number + 1} of {check.rounds}")
            if ours:
                found.ours.append(_ours(endpoint, requests, check, rate))
            else:
                found.theirs.append(_theirs(endpoint, tokenizer, requests.mirrored(), check, rate))
            progress.advance(task)
    return found


def _bodies(check: Check, seed: str) -> list[Any]:
    return [body for _, body in check.workload.bodies(check.number, random.Random(f"{check.seed} {seed}"))]


def _rate(endpoint: Endpoint, check: Check) -> float:
    """From as many requests as a round has, all at once."""
    measured = _ours(endpoint, alike(_bodies(check, "rate"), TOKENS), check, float("inf"))
    return float(f"{SHARE * measured['request_throughput']:.3g}")


def _ours(endpoint: Endpoint, requests: Alike, check: Check, rate: float) -> Row:
    due_s = gamma(rate, check.burstiness, check.number, random.Random(check.seed))
    planned = [Planned(at_s, "", body) for at_s, body in zip(due_s, requests.bodies(), strict=True)]
    answers = drive(endpoint, planned)
    if failed := [answer for answer in answers if not answer.ok]:
        raise GeneratorFailed(f"{len(failed)} of {check.number} requests failed, the first with: {failed[0].error}")
    return figures(answers)


def _theirs(endpoint: Endpoint, tokenizer: str, requests: Alike, check: Check, rate: float) -> Row:
    tool = OnTheSame(requests, rate, check.burstiness, check.seed, endpoint.key)
    target = Target(endpoint.url, endpoint.model, tokenizer)
    with tempfile.TemporaryDirectory(prefix="chiasm-cross-check-") as folder:
        found = run_load(tool, target, Load(check.number, check.number), Path(folder), TIMEOUT_S)
    if found["failed"]:
        raise GeneratorFailed(f"vllm bench serve had no answer to {found['failed']} of {check.number} requests")
    return found


def rows(found: Found) -> list[Row]:
    """For each figure that both have told in every round: medians, and by how much ours is larger.

    The interval, from three rounds on, holds the true ratio of means with 95 % (`bench.load.slopes`). Where it does not
    hold 0 %, the tools differ.
    """
    names = [name for name in found.ours[0] if all(name in each for each in (*found.ours, *found.theirs))]
    return [_row(name, found) for name in names if name.endswith(("_ms", "_throughput"))]


def _row(name: str, found: Found) -> Row:
    ours, theirs = ([float(each[name]) for each in side] for side in (found.ours, found.theirs))
    middle = statistics.median(ours), statistics.median(theirs)
    row: Row = {
        "what": "figure",
        "figure": name,
        "ours": middle[0],
        "vllm_bench_serve": middle[1],
        "difference_percent": 100 * (middle[0] / middle[1] - 1) if middle[1] else None,
        "rounds": len(ours),
        "request_rate": found.rate,
    }
    if len(ours) >= LEAST:
        try:
            interval = ratio(ours, theirs)
        except Undetermined:
            return row
        low, high = 100 * (interval.low - 1), 100 * (interval.high - 1)
        row |= {"low_percent": low, "high_percent": high, "within_noise": low <= 0 <= high}
    return row


def headline(series: Sequence[Row]) -> dict[str, float]:
    """By how much the tools differ, in per cent, in what people quote."""
    quoted = ("median_ttft_ms", "median_tpot_ms", "median_itl_ms", "request_throughput", "output_throughput")
    return {
        f"{row['figure']}_difference_percent": round(row["difference_percent"], 2)
        for row in series
        if row["figure"] in quoted and row["difference_percent"] is not None
    }


def tables(series: Sequence[Row]) -> Iterator[Table]:
    """What a person reads."""
    rate, rounds = series[0]["request_rate"], series[0]["rounds"]
    table = Table(title=f"the same requests by two tools, {rate:g} requests/s, medians of {rounds} rounds")
    table.add_column("figure")
    for column in ("chiasm bench serve", "vllm bench serve", "difference", "95 % interval"):
        table.add_column(column, justify="right")
    for row in series:
        difference = row["difference_percent"]
        interval = f"{row['low_percent']:+.1f} to {row['high_percent']:+.1f} %" if "low_percent" in row else "–"
        table.add_row(
            row["figure"],
            f"{row['ours']:.2f}",
            f"{row['vllm_bench_serve']:.2f}",
            "–" if difference is None else f"{difference:+.1f} %",
            interval,
        )
    yield table
