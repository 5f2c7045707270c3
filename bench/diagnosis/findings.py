"""What the sweeps tell: slopes, the encode's part of what streams suffer, and their longest gaps. Pure.

A text of as many tokens as a picture makes is prefilled as the picture's tokens are, but nothing is encoded for it. So
the difference of the two is what the encode costs the streams beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.diagnosis.plan import FEWEST_SWEEPS, Rung
from bench.diagnosis.stalls import Stall, stall, usual_gap_s
from bench.diagnosis.sweeping import PICTURE, TEXT, Carried, Measured
from bench.load.slopes import Interval, Undetermined, block_slopes, mean_interval, ratio


class TooLittle(RuntimeError):
    """Too little was measured to say anything; the message says how to measure more."""


@dataclass(frozen=True)
class Point:
    """One request, or several at once, and what the streams suffered meanwhile."""

    carried: Carried
    stall: Stall


Sweep = Mapping[tuple[str, int], Point]
"""By kind and rung."""


@dataclass(frozen=True)
class Effect:
    """Of one kind of request, on one rung; in ms."""

    behind: Interval  # that a stream falls behind
    longest: Interval  # gap of a stream
    ttft: Interval  # the request's own


@dataclass(frozen=True)
class RungSeen:
    """A picture, or some, beside a text of as many tokens."""

    rung: Rung
    picture: Effect
    text: Effect


@dataclass(frozen=True)
class VllmClock:
    """What vLLM's metrics say of single requests of the judged rung, in ms."""

    picture: Interval  # from when it was first scheduled to its first token
    text: Interval
    queued: float  # mean


@dataclass(frozen=True)
class Findings:
    """Slopes are ms that a stream falls behind for each 1,000 tokens. Judged is the largest picture that is sent."""

    gap_ms: float  # of streams left alone
    sweeps: tuple[Sweep, ...]
    rungs: tuple[RungSeen, ...]
    judged: RungSeen
    picture: Interval
    text: Interval
    encode: Interval  # picture - text, sweep by sweep
    share: Interval | None  # encode / picture; None: the picture's slope may be 0
    cut: Interval  # the encode's part of the longest gap, judged
    clock: VllmClock | None


def points(measured: Measured, gap_s: float) -> list[Point]:
    """What was carried while at least one stream was there to suffer."""
    found = []
    for carried in measured.carried:
        suffered = stall(measured.runs, carried.window, gap_s)
        if suffered is not None:
            found.append(Point(carried, suffered))
    return found


def usual_gap_of(measured: Measured) -> float:
    """In seconds, of streams left alone.

    Raises:
        TooLittle: there was no such gap.
    """
    gap_s = usual_gap_s(measured.runs, measured.busy)
    if gap_s is None:
        raise TooLittle("The streams were never alone for two tokens in the time there was. Give it more: --minutes.")
    return gap_s


def find(seen: Sequence[Point], gap_s: float, ladder: Sequence[Rung], judged: Rung) -> Findings:
    """Of whole sweeps alone.

    Raises:
        TooLittle: there are fewer than three of them.
    """
    sweeps = _whole(seen, len(ladder))
    if len(sweeps) < FEWEST_SWEEPS:
        raise TooLittle(
            f"{len(sweeps)} whole sweeps were measured in the time there was, and {FEWEST_SWEEPS} are needed. Give it "
            "more time (--minutes), or name smaller --sizes."
        )
    picture, text = (block_slopes([_line(sweep, kind) for sweep in sweeps]) for kind in (PICTURE, TEXT))
    encode = [one - other for one, other in zip(picture, text, strict=True)]
    rungs = tuple(
        RungSeen(rung, _effect(sweeps, PICTURE, number), _effect(sweeps, TEXT, number))
        for number, rung in enumerate(ladder)
    )
    at = list(ladder).index(judged)
    return Findings(
        gap_ms=1000 * gap_s,
        sweeps=tuple(sweeps),
        rungs=rungs,
        judged=rungs[at],
        picture=mean_interval(picture),
        text=mean_interval(text),
        encode=mean_interval(encode),
        share=_share(encode, picture),
        cut=mean_interval([sweep[PICTURE, at].stall.longest_ms - sweep[TEXT, at].stall.longest_ms for sweep in sweeps]),
        clock=_clock(seen, at),
    )


def _whole(seen: Sequence[Point], rungs: int) -> list[Sweep]:
    sweeps: dict[int, dict[tuple[str, int], Point]] = {}
    for point in seen:
        if point.carried.kind in (PICTURE, TEXT):
            sweeps.setdefault(point.carried.sweep, {})[point.carried.kind, point.carried.rung] = point
    return [sweep for sweep in sweeps.values() if len(sweep) == 2 * rungs]


def _line(sweep: Sweep, kind: str) -> list[tuple[float, float]]:
    return [
        (point.carried.tokens / 1000, point.stall.behind_ms) for (its, _), point in sorted(sweep.items()) if its == kind
    ]


def _effect(sweeps: Sequence[Sweep], kind: str, rung: int) -> Effect:
    found = [sweep[kind, rung] for sweep in sweeps]
    return Effect(
        behind=mean_interval([point.stall.behind_ms for point in found]),
        longest=mean_interval([point.stall.longest_ms for point in found]),
        ttft=mean_interval([point.carried.ttft_ms for point in found]),
    )


def _share(encode: Sequence[float], picture: Sequence[float]) -> Interval | None:
    try:
        return ratio(encode, picture)
    except Undetermined:
        return None


def _clock(seen: Sequence[Point], rung: int) -> VllmClock | None:
    judged = [point.carried for point in seen if point.carried.rung == rung]
    told = {
        kind: [each.prefill_ms for each in judged if each.kind == kind and each.prefill_ms is not None]
        for kind in (PICTURE, TEXT)
    }
    if any(len(values) < FEWEST_SWEEPS for values in told.values()):
        return None
    queued = fmean(each.queued_ms for each in judged if each.queued_ms is not None)
    return VllmClock(mean_interval(told[PICTURE]), mean_interval(told[TEXT]), queued)
