"""Whether tails of TTFT and ITL are within their objectives at a rate.

One percentile of each holds for a whole ladder of rates, and figures carry its name: P99, or P95 where a rate has fewer
than a thousand samples over all rounds (`bench.percentiles`). A request is one sample of TTFT, each gap between two of
its tokens one of ITL. So no rate is judged more leniently than another.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.load.answers import Answer
from bench.percentiles import named, percentile, tail


@dataclass(frozen=True)
class Objectives:
    """What users are promised, in milliseconds: of the time to the first token, and of the gaps between tokens."""

    ttft_ms: float
    itl_ms: float


@dataclass(frozen=True)
class Shares:
    """The percentiles at which objectives are held, as shares."""

    ttft: float
    itl: float

    def __str__(self) -> str:
        return f"{named(self.ttft).upper()} of TTFT, {named(self.itl).upper()} of ITL"


@dataclass(frozen=True)
class Tails:
    """What decides whether objectives hold at one rate, at such percentiles."""

    requests: int
    failed: int
    ttft_ms: float | None  # None without samples
    itl_ms: float | None  # of the gaps of all streams together; None where no answer has two tokens

    def within(self, objectives: Objectives) -> bool:
        """Both are, and no request failed. Without any answer, nothing is; gaps that do not exist are."""
        if self.failed or self.ttft_ms is None:
            return False
        return self.ttft_ms <= objectives.ttft_ms and (self.itl_ms is None or self.itl_ms <= objectives.itl_ms)


def shares_of(samples: Iterable[tuple[int, int]]) -> Shares:
    """Those of a ladder, by how many requests and gaps there are at each rate."""
    requests, gaps = zip(*samples, strict=True)
    return Shares(tail(min(requests)), tail(min(gaps)))


def tails(answers: Sequence[Answer], gaps_s: Sequence[float], shares: Shares) -> Tails:
    """Of all that was asked at one rate, and all gaps between tokens (`Answer.gaps_s`) that are told of it.

    First tokens are timed from when a request was due, so that a load generator that is late hides nothing.
    """
    good = [answer for answer in answers if answer.ok]
    waits_s = [answer.waited_s for answer in good]
    return Tails(len(answers), len(answers) - len(good), _tail_ms(waits_s, shares.ttft), _tail_ms(gaps_s, shares.itl))


def _tail_ms(samples_s: Sequence[float], share: float) -> float | None:
    return 1000 * percentile(samples_s, share) if samples_s else None


def holds(answers: Sequence[Answer], objectives: Objectives) -> bool:
    """Whether both objectives do, of a rate that is asked alone; where any request failed, they do not."""
    gaps_s = [gap_s for answer in answers if answer.ok for gap_s in answer.gaps_s]
    return bool(answers) and tails(answers, gaps_s, shares_of([(len(answers), len(gaps_s))])).within(objectives)
