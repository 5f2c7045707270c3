"""Goodput: the highest rate at which tails of TTFT and ITL are within their objectives, and the curve over these.

A tail is P99, or P95 where there are fewer than a thousand samples (`bench.percentiles`); results say which.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.load.answers import Answer
from bench.percentiles import named, percentile, tail


@dataclass(frozen=True)
class Objectives:
    """What users are promised, in milliseconds: of the time to the first token, and of the gaps between tokens."""

    ttft_ms: float
    itl_ms: float


@dataclass(frozen=True)
class Tail:
    """One quantity's: `p99`, or `p95` of few samples."""

    percentile: str
    ms: float


@dataclass(frozen=True)
class Tails:
    """What decides whether objectives hold at one rate."""

    requests: int
    failed: int
    ttft: Tail | None  # None without samples
    itl: Tail | None  # of the gaps of all streams together; None where no answer has two tokens

    def within(self, objectives: Objectives) -> bool:
        """Both are, and no request failed. Without any answer, nothing is; gaps that do not exist are."""
        if self.failed or self.ttft is None:
            return False
        return self.ttft.ms <= objectives.ttft_ms and (self.itl is None or self.itl.ms <= objectives.itl_ms)


def tails(answers: Sequence[Answer]) -> Tails:
    """Of all that was asked at one rate."""
    good = [answer for answer in answers if answer.ok]
    ttfts_s = [answer.ttft_s for answer in good]
    itls_s = [itl_s for answer in good for itl_s in answer.itls_s]
    return Tails(len(answers), len(answers) - len(good), _tail(ttfts_s), _tail(itls_s))


def _tail(samples_s: Sequence[float]) -> Tail | None:
    if not samples_s:
        return None
    share = tail(len(samples_s))
    return Tail(named(share), 1000 * percentile(samples_s, share))


def holds(answers: Sequence[Answer], objectives: Objectives) -> bool:
    """Whether both objectives do; where any request failed, they do not."""
    return tails(answers).within(objectives)


def goodput(points: Mapping[float, Sequence[Answer]], objectives: Objectives) -> float:
    """The highest rate up to which objectives hold at every rate of the ladder, or 0.

    `points` are a ladder of rates in requests/s and what was seen at each. A rate that holds above one that does not
    is luck, and does not count.
    """
    return _highest(_ladder(points), objectives)


def curve(points: Mapping[float, Sequence[Answer]], grid: Sequence[Objectives]) -> list[float]:
    """`goodput` for each of `grid`, from the same ladder."""
    ladder = _ladder(points)
    return [_highest(ladder, objectives) for objectives in grid]


def _ladder(points: Mapping[float, Sequence[Answer]]) -> dict[float, Tails]:
    return {rate: tails(points[rate]) for rate in sorted(points)}


def _highest(ladder: Mapping[float, Tails], objectives: Objectives) -> float:
    holding = itertools.takewhile(lambda rate: ladder[rate].within(objectives), ladder)
    return max(holding, default=0.0)


def ladder_rows(points: Mapping[float, Sequence[Answer]]) -> list[dict[str, Any]]:
    """A flat object for a report for each rate: both tails, and which percentiles they are; None without samples."""
    return [
        {"rate_per_s": rate, "requests": seen.requests, "failed": seen.failed}
        | _fields("ttft", seen.ttft)
        | _fields("itl", seen.itl)
        for rate, seen in _ladder(points).items()
    ]


def _fields(quantity: str, seen: Tail | None) -> dict[str, Any]:
    return {
        f"{quantity}_percentile": seen.percentile if seen else None,
        f"{quantity}_tail_ms": seen.ms if seen else None,
    }


def curve_rows(points: Mapping[float, Sequence[Answer]], grid: Sequence[Objectives]) -> list[dict[str, Any]]:
    """A flat object for a report for each of `grid`, with its goodput and the percentiles that were held against it.

    Where these differ along the ladder, all are named: `p95, p99`. `at_least` is true where the highest rate of the
    ladder holds still, so that the goodput may be higher.
    """
    ladder = _ladder(points)
    used = {
        "ttft_percentile": _all_of(seen.ttft for seen in ladder.values()),
        "itl_percentile": _all_of(seen.itl for seen in ladder.values()),
    }
    rows = []
    for objectives in grid:
        highest = _highest(ladder, objectives)
        rows.append(
            {
                "ttft_objective_ms": objectives.ttft_ms,
                "itl_objective_ms": objectives.itl_ms,
                "goodput_per_s": highest,
                "at_least": bool(ladder) and highest == max(ladder),
            }
            | used
        )
    return rows


def _all_of(seen: Iterable[Tail | None]) -> str:
    return ", ".join(sorted({each.percentile for each in seen if each}))
