"""From answers to figures: a row for each block, and over the blocks an interval for each figure that is quoted."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.load.answers import Answer
from bench.load.figures import figures
from bench.load.slopes import Interval, mean_interval
from bench.overhead.measuring import Pair
from bench.overhead.plan import Traffic

Row = dict[str, Any]
TTFT, PER_TOKEN, THROUGHPUT = "added_ttft_p50_ms", "added_per_token_ms", "throughput_vs_direct"
PER_TOKEN_MEAN = "added_per_token_mean_ms"


@dataclass(frozen=True)
class Quoted:
    """A figure of the headline: what it is taken of, and what it should be."""

    traffic: Traffic
    figure: str
    target: str = ""


QUOTED: Mapping[str, Quoted] = {
    "added_ttft_p50_ms": Quoted(Traffic.TEXT, TTFT, "at most 5"),
    "added_per_token_ms": Quoted(Traffic.TEXT, PER_TOKEN, "at most 0.1"),
    "added_per_token_mean_ms": Quoted(Traffic.TEXT, PER_TOKEN_MEAN),
    "throughput_vs_direct": Quoted(Traffic.BURST, THROUGHPUT, "at least 0.97"),
    "small_model_throughput_vs_direct": Quoted(Traffic.SMALL_BURST, THROUGHPUT),
    "image_added_ttft_p50_ms": Quoted(Traffic.IMAGES, TTFT),
    "image_added_per_token_ms": Quoted(Traffic.IMAGES, PER_TOKEN),
    "image_added_per_token_mean_ms": Quoted(Traffic.IMAGES, PER_TOKEN_MEAN),
}


def row_of_pairs(pairs: Sequence[Pair]) -> Row:
    """Milliseconds. What is added is taken of each pair; the median of pairs tells what a gateway does to any answer.

    Per token the mean is quoted as well, for it has in it whatever holds a token up now and then. On a machine that
    others share that is their doing, too, and its interval is wide.
    """
    sides = list(zip(*pairs, strict=True))
    ttfts = [[1000 * answer.ttft_s for answer in side] for side in sides]
    tpots = [[1000 * _tpot_s(answer) for answer in side] for side in sides]
    per_token = [through - direct for through, direct in zip(*tpots, strict=True)]
    return {
        "pairs": len(pairs),
        "ttft_p50_gateway_ms": statistics.median(ttfts[0]),
        "ttft_p50_direct_ms": statistics.median(ttfts[1]),
        TTFT: statistics.median(through - direct for through, direct in zip(*ttfts, strict=True)),
        "tpot_mean_gateway_ms": statistics.mean(tpots[0]),
        "tpot_mean_direct_ms": statistics.mean(tpots[1]),
        PER_TOKEN: statistics.median(per_token),
        PER_TOKEN_MEAN: statistics.mean(per_token),
    }


def _tpot_s(answer: Answer) -> float:
    assert answer.tpot_s is not None  # all answers have several tokens
    return answer.tpot_s


def row_of_bursts(gateway: Sequence[Answer], direct: Sequence[Answer]) -> Row:
    """Output tokens/s from the first request to the last token, and their ratio."""
    rates = [figures(answers)["output_throughput"] for answers in (gateway, direct)]
    return {
        "requests": len(gateway),
        "tokens_per_s_gateway": rates[0],
        "tokens_per_s_direct": rates[1],
        THROUGHPUT: rates[0] / rates[1],
    }


def intervals(series: Sequence[Row]) -> dict[str, Interval]:
    """Each quoted figure that was measured: its mean over the blocks, and where that lies in 95 of 100 such runs."""
    found = {}
    for name, quoted in QUOTED.items():
        if values := [row[quoted.figure] for row in series if row["traffic"] == quoted.traffic]:
            found[name] = mean_interval(values)
    return found


def as_series(series: Sequence[Row], found: Mapping[str, Interval]) -> list[Row]:
    """For the report: the blocks, and behind them the intervals."""
    blocks = [{key: _rounded(value) for key, value in row.items()} for row in series]
    return blocks + [
        {"traffic": str(QUOTED[name].traffic), "block": "all", "figure": name}
        | {"value": _rounded(interval.value), "low": _rounded(interval.low), "high": _rounded(interval.high)}
        for name, interval in found.items()
    ]


def headline(found: Mapping[str, Interval]) -> dict[str, float]:
    """The figures to quote."""
    return {name: _rounded(interval.value) for name, interval in found.items()}


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def as_lines(found: Mapping[str, Interval]) -> Iterator[str]:
    """What a person reads of the headline."""
    for name, interval in found.items():
        target = f", should be {QUOTED[name].target}" if QUOTED[name].target else ""
        yield f"{name:<34}{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f}){target}"


def blocks_table(series: Sequence[Row], traffic: Traffic) -> Table | None:
    """Each block of one kind of traffic; None if there was none of it."""
    rows = [row for row in series if row["traffic"] == traffic]
    if not rows:
        return None
    columns = [name for name in rows[0] if name != "traffic"]
    table = Table(*(name.replace("_", " ") for name in columns), title=str(traffic), title_justify="left")
    for row in rows:
        table.add_row(*(f"{row[name]:.3f}" if isinstance(row[name], float) else str(row[name]) for name in columns))
    return table
