"""From answers to figures: a row for each side at each point, and over the rounds a ratio for each pair of them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from bench.load.answers import Answer
from bench.load.figures import figures
from bench.vllm_epd.plan import Level, Point, rate_at

Row = dict[str, Any]
OURS, THEIRS = "split", "vllm-epd"
TTFT, THROUGHPUT = "median_ttft_ms", "output_throughput"
TIMES = (TTFT, "p90_ttft_ms", "median_itl_ms", "p90_itl_ms")
CORES = ("engine_cores", "other_cores")  # see `bench.processor_time`
KEPT = (
    *("completed", "failed", "duration", "request_throughput", THROUGHPUT),
    *("median_tpot_ms", "median_e2el_ms", "max_late_ms"),
)


def capacity_per_s(answers: Sequence[Answer]) -> float:
    """Requests a second that a side can do at most, by a burst of them: to the last first token.

    What comes after that, while the last answers run out, is no full load.
    """
    first_tokens_s = [answer.tokens_s[0] for answer in answers if answer.ok]
    return len(first_tokens_s) / max(first_tokens_s)


def row(side: str, point: Point, capacity_per_s: float, answers: Sequence[Answer]) -> Row:
    """What the series has of one side at one point; names and units are those of `bench.load.figures`.

    But TTFT counts from when a request was due, and ITL is between tokens (`bench.load.answers`).
    """
    found = figures(answers) | _times(answers)
    rate = rate_at(point, capacity_per_s)
    return {
        "arrangement": side,
        "images": point.images,
        "load": point.level.value,
        "requests_per_s": rate if point.level is not Level.ALL_AT_ONCE else None,
        "round": point.round,
        **{name: found[name] for name in (*KEPT, *TIMES) if name in found},
    }


def _times(answers: Sequence[Answer]) -> dict[str, float]:
    done = [answer for answer in answers if answer.ok]
    waits_ms = [1000 * answer.waited_s for answer in done]
    gaps_ms = [1000 * gap_s for answer in done for gap_s in answer.gaps_s]
    found: dict[str, float] = {}
    for name, values in (("ttft", waits_ms), ("itl", gaps_ms)):
        if values:
            found |= {
                f"median_{name}_ms": statistics.median(values),
                f"p90_{name}_ms": float(np.percentile(values, 90)),
            }
    return found


@dataclass(frozen=True)
class Ratio:
    """Ours to theirs at one point, over the rounds."""

    images: int
    load: str
    figure: str
    median: float
    least: float
    most: float
    failed: int = 0  # requests of both sides at that point, in all rounds


def ratios(series: Sequence[Row]) -> list[Ratio]:
    """Of times to first tokens and of throughputs, each of the same round, wherever both sides answered anything."""
    found = []
    for images, load in dict.fromkeys((row["images"], row["load"]) for row in series):
        rows = [row for row in series if (row["images"], row["load"]) == (images, load)]
        failures = sum(row["failed"] for row in rows)
        for figure in (TTFT, THROUGHPUT):
            measured = {(row["arrangement"], row["round"]): row[figure] for row in rows if row["completed"]}
            rounds = sorted(
                {number for side, number in measured if {(OURS, number), (THEIRS, number)} <= measured.keys()}
            )
            if values := [measured[OURS, number] / measured[THEIRS, number] for number in rounds]:
                found.append(Ratio(images, load, figure, statistics.median(values), min(values), max(values), failures))
    return found


def headline(found: Sequence[Ratio]) -> dict[str, float]:
    """The figures to quote: for each number of pictures, and the least favourable of those by the names that count.

    None is of a point where a request failed, for a side that sheds load would gain by it.
    """
    figures = {}
    chosen = (
        ("ttft_p50_vs_vllm_epd", TTFT, Level.MIDDLE, max),
        ("throughput_vs_vllm_epd", THROUGHPUT, Level.ALL_AT_ONCE, min),
    )
    for name, figure, level, worst in chosen:
        points = [one for one in found if (one.figure, one.load) == (figure, level.value)]
        if points and not any(one.failed for one in points):
            figures[name] = round(worst(one.median for one in points), 3)
        figures |= {f"{name}_{one.images}img": round(one.median, 3) for one in points if not one.failed}
    return figures


def failed(series: Sequence[Row]) -> dict[str, int]:
    """Requests that were not answered, by side."""
    return {side: sum(row["failed"] for row in series if row["arrangement"] == side) for side in (OURS, THEIRS)}


def as_series(series: Sequence[Row], found: Sequence[Ratio]) -> list[Row]:
    """For the report: every point, and behind them the ratios, and the cores that were busy."""
    points = [{name: _rounded(value) for name, value in row.items()} for row in series]
    names = {TTFT: "ttft_p50_vs_vllm_epd", THROUGHPUT: "throughput_vs_vllm_epd"}
    return (
        points
        + [
            {"images": one.images, "load": one.load, "round": "all", "figure": names[one.figure]}
            | {
                "median": _rounded(one.median),
                "least": _rounded(one.least),
                "most": _rounded(one.most),
                "failed": one.failed,
            }
            for one in found
        ]
        + _cores(series)
    )


def _cores(series: Sequence[Row]) -> list[Row]:
    """Medians over the rounds."""
    points: dict[tuple[int, str, str], list[Row]] = {}
    for row in series:
        points.setdefault((row["images"], row["load"], row["arrangement"]), []).append(row)
    return [
        {"images": images, "load": load, "round": "cores", "arrangement": side}
        | {name: _rounded(statistics.median(row[name] for row in rows)) for name in CORES}
        for (images, load, side), rows in sorted(points.items())
    ]


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def medians(series: Sequence[Row], side: str, images: int, figure: str) -> dict[str, tuple[float, float, float]]:
    """Of one side over the rounds, by load: the median, the least and the most."""
    values: dict[str, list[float]] = {}
    for row in series:
        if (row["arrangement"], row["images"]) == (side, images) and row["completed"]:
            values.setdefault(row["load"], []).append(row[figure])
    return {load: (statistics.median(each), min(each), max(each)) for load, each in values.items()}


def as_table(series: Sequence[Row], found: Sequence[Ratio], images: int) -> Table:
    """What a person reads of requests with so many pictures: medians over the rounds."""
    table = Table(title=f"{images} pictures in a request" if images > 1 else "one picture in a request")
    for column in ("load", "", OURS, THEIRS, "ratio", "in rounds from", "to"):
        table.add_column(column, justify="right")
    for name, figure in (("TTFT P50 ms", TTFT), ("tokens/s", THROUGHPUT)):
        sides = [medians(series, side, images, figure) for side in (OURS, THEIRS)]
        for one in found:
            if (one.images, one.figure) == (images, figure):
                both = [f"{side[one.load][0]:.1f}" for side in sides]
                table.add_row(one.load, name, *both, f"{one.median:.3f}", f"{one.least:.3f}", f"{one.most:.3f}")
    return table
