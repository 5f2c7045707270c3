"""The same requests to the same server, once by this load generator and once by `vllm bench serve`, in turn.

Both send what `foreign.Alike` holds; one of them gets it back to front, so that no cache of the server's helps the
second. They come evenly, so that the draw of arrivals does not hide what is looked for.
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
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
from bench.serve.salted import salted

TOKENS = 32  # of every answer
ROUNDS, QUICK_ROUNDS = 11, 1
NUMBER, QUICK_NUMBER = 24, 8  # requests of a tool in a round
SHARE = 0.5  # of what the server answers when they come at once: the rate, unless it is told
QUOTED = ("median_ttft_ms", "median_tpot_ms", "median_itl_ms", "request_throughput", "output_throughput")
EQUIVALENT_PERCENT = 5.0
TIMEOUT_S = 1800.0  # of a run of vllm bench serve

Row = dict[str, Any]


@dataclass(frozen=True)
class Check:
    """What both are to do."""

    workload: Workload
    number: int  # requests of a tool in a round
    rounds: int
    seed: int
    nonce: str  # see `one_server.Load`
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
    return [body for _, body in check.workload.bodies(check.number, salted(f"{check.seed} {seed}", check.nonce))]


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
    """For each figure that both have told in every round: means over rounds, and by how much ours is larger.

    The interval, from three rounds on, holds the true ratio of means with 95 % (`bench.load.slopes`). The tools count
    as equivalent in a figure of `QUOTED` if all of it is within `EQUIVALENT_PERCENT`: noise cannot make them so.
    """
    names = [name for name in found.ours[0] if all(name in each for each in (*found.ours, *found.theirs))]
    return [_row(name, found) for name in names if name.endswith(("_ms", "_throughput"))]


def _row(name: str, found: Found) -> Row:
    ours, theirs = ([float(each[name]) for each in side] for side in (found.ours, found.theirs))
    means = fmean(ours), fmean(theirs)
    row: Row = {
        "what": "figure",
        "figure": name,
        "ours": means[0],
        "vllm_bench_serve": means[1],
        "difference_percent": 100 * (means[0] / means[1] - 1) if means[1] else None,
        "rounds": len(ours),
        "request_rate": found.rate,
    }
    if len(ours) >= LEAST:
        try:
            interval = ratio(ours, theirs)
        except Undetermined:
            return row
        row |= {"low_percent": 100 * (interval.low - 1), "high_percent": 100 * (interval.high - 1)}
    if name in QUOTED and "low_percent" in row:
        row["equivalent"] = max(-row["low_percent"], row["high_percent"]) <= EQUIVALENT_PERCENT
    return row


def headline(series: Sequence[Row]) -> dict[str, float]:
    """By how much the tools differ, in per cent, in what people quote; in how many of these five that is within noise,
    and in how many they are equivalent.
    """
    quoted = [row for row in series if row["figure"] in QUOTED]
    found = {
        f"{row['figure']}_difference_percent": round(row["difference_percent"], 2)
        for row in quoted
        if row["difference_percent"] is not None
    }
    told = [row for row in quoted if "equivalent" in row]
    if not told:
        return found
    within_noise = sum(row["low_percent"] <= 0 <= row["high_percent"] for row in told)
    return found | {
        "within_noise_of_5": float(within_noise),
        "equivalent_of_5": float(sum(row["equivalent"] for row in told)),
    }


def tables(series: Sequence[Row]) -> Iterator[Table]:
    """What a person reads."""
    rate, rounds = series[0]["request_rate"], series[0]["rounds"]
    table = Table(title=f"the same requests by two tools, {rate:g} requests/s, means of {rounds} rounds")
    table.add_column("figure")
    for column in ("chiasm bench serve", "vllm bench serve", "difference", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column(f"equivalent (within {EQUIVALENT_PERCENT:g} %)")
    for row in series:
        difference = row["difference_percent"]
        interval = f"{row['low_percent']:+.1f} to {row['high_percent']:+.1f} %" if "low_percent" in row else "–"
        table.add_row(
            row["figure"],
            f"{row['ours']:.2f}",
            f"{row['vllm_bench_serve']:.2f}",
            "–" if difference is None else f"{difference:+.1f} %",
            interval,
            {True: "yes", False: "not shown", None: ""}[row.get("equivalent")],
        )
    yield table
