"""What the sweeps tell: what pictures cost the streams beside them, and what of it is the encode. Pure.

A text of as many tokens as a picture makes is prefilled as the picture's tokens are, but nothing is encoded for it. So
the difference of the two, sweep by sweep, is what the encode costs the streams. And since others may use the server, a
look at the streams while nothing of ours is there, for as long as a picture takes, says what gaps they have anyway.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.diagnosis.plan import FEWEST_SWEEPS, Rung
from bench.diagnosis.probing import HELD_BACK, Known
from bench.diagnosis.stalls import Stall, apart, held_back, quiet_gaps, stall
from bench.diagnosis.sweeping import (
    NOTHING,
    PICTURE,
    PICTURES_AT_ONCE,
    SEVERAL,
    TEXT,
    TEXTS_AT_ONCE,
    Carried,
    Measured,
)
from bench.load.slopes import Growth, Interval, Undetermined, block_slopes, growth, mean_interval, ratio


class Untold(RuntimeError):
    """What was measured does not tell; the message says why, and what to do."""


@dataclass(frozen=True)
class Point:
    """What went on beside the streams, and what they suffered meanwhile."""

    carried: Carried
    stall: Stall


Sweep = Mapping[tuple[str, int], Point]
"""By kind and rung; of a round, by kind and number at once."""


@dataclass(frozen=True)
class Effect:
    """Of one kind of request, in ms."""

    behind: Interval  # that a stream falls behind: the mean
    longest: Interval  # gap of any stream: the mean
    ttft: Interval  # the request's own: the mean


@dataclass(frozen=True)
class Beside:
    """Requests with pictures beside the streams, and with texts of as many tokens in their place."""

    carries: Rung
    at_once: int  # requests
    picture: Effect
    text: Effect
    encode: Interval  # what the streams fall behind for it: picture - text, sweep by sweep
    share: Interval | None  # encode / picture; None: the picture may cost nothing
    cut: Interval  # the encode's part of the longest gap, sweep by sweep


@dataclass(frozen=True)
class Phases:
    """Of a request with the judged pictures, in ms: the first four make up its time to first token.

    Encode and prefill are what the streams fall behind for them; the rest of a text's time to first token is HTTP,
    template and question, and the streams' own steps meanwhile. What a picture takes beyond a text and the encode is
    its way from bytes to pixels in the API server's process.
    """

    preparation: Interval
    encode: Interval
    prefill: Interval
    rest: Interval
    token: float  # of the answer, each


@dataclass(frozen=True)
class Grown:
    """How one figure grows; `growth` is None where the measurements do not tell."""

    growth: Growth | None
    why: str


@dataclass(frozen=True)
class Bursts:
    """Several requests at once, in whole rounds."""

    rounds: int
    rows: tuple[Beside, ...]
    behind: Grown
    longest: Grown


@dataclass(frozen=True)
class Findings:
    """Slopes are ms that a stream falls behind for each 1,000 tokens, from none on."""

    gap_ms: float  # between pieces of streams left alone: the mean
    piece_tokens: float
    alone: Interval  # ms: the longest gap of any stream beside nothing, in as long as a picture takes: the mean
    sweeps: tuple[Sweep, ...]
    rungs: tuple[Beside, ...]
    judged: Beside
    picture: Interval
    text: Interval
    encode: Interval  # picture - text, sweep by sweep
    phases: Phases
    bursts: Bursts | None  # None: there was no time for three rounds

    @property
    def piece_steps(self) -> int:
        """Steps of the engine in a piece, at most; each may have its chunk of prefill."""
        return max(1, math.ceil(self.piece_tokens - 0.1))

    def long_gaps(self, objective_ms: float) -> float:
        """How many gaps a stream has beyond that, for each request with the judged pictures."""
        at = self.rungs.index(self.judged)
        streams = [gaps for sweep in self.sweeps for gaps in sweep[PICTURE, at].stall.gaps]
        return fmean(sum(gap > objective_ms for gap in gaps) for gaps in streams)


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
        Untold: there was no such gap, or pieces came several at a time.
    """
    gaps = quiet_gaps(measured.runs, measured.busy)
    if not gaps:
        raise Untold("The streams were never alone for two tokens in the time there was. Give it more: --minutes.")
    if held_back(gaps):
        raise Untold(HELD_BACK)
    return fmean(gaps)


def find(measured: Measured, known: Known, bursts: Sequence[int]) -> Findings:
    """Of whole sweeps, and whole rounds, alone.

    Raises:
        Untold: there are fewer than three sweeps; or see `usual_gap_of`; or the streams are on several engines.
    """
    gap_s = usual_gap_of(measured)
    seen = points(measured, gap_s)
    if apart([point.stall for point in seen if point.carried.kind == PICTURE], gap_s):
        raise Untold(SEVERAL)
    ladder = known.ladder
    at = ladder.index(known.judged)
    sweeps = _whole(seen, {(kind, rung) for kind in (PICTURE, TEXT) for rung in range(len(ladder))} | {(NOTHING, at)})
    if len(sweeps) < FEWEST_SWEEPS:
        raise Untold(
            f"{len(sweeps)} whole sweeps were measured in the time there was, and {FEWEST_SWEEPS} are needed. Give it "
            "more time (--minutes), or name smaller --sizes."
        )
    rungs = tuple(_beside(sweeps, rung, 1, (PICTURE, number), (TEXT, number)) for number, rung in enumerate(ladder))
    picture, text = (block_slopes([_line(sweep, kind) for sweep in sweeps]) for kind in (PICTURE, TEXT))
    return Findings(
        gap_ms=1000 * gap_s,
        piece_tokens=measured.piece_tokens,
        alone=mean_interval([sweep[NOTHING, at].stall.longest_ms for sweep in sweeps]),
        sweeps=tuple(sweeps),
        rungs=rungs,
        judged=rungs[at],
        picture=mean_interval(picture),
        text=mean_interval(text),
        encode=mean_interval([one - other for one, other in zip(picture, text, strict=True)]),
        phases=_phases(sweeps, at, 1000 * gap_s / measured.piece_tokens),
        bursts=_bursts(seen, bursts, known.at_once),
    )


def _whole(seen: Sequence[Point], wanted: set[tuple[str, int]]) -> list[Sweep]:
    found: dict[int, dict[tuple[str, int], Point]] = {}
    for point in seen:
        which = point.carried.kind, point.carried.rung
        if which in wanted:
            found.setdefault(point.carried.sweep, {})[which] = point
    return [sweep for sweep in found.values() if len(sweep) == len(wanted)]


def _line(sweep: Sweep, kind: str) -> list[tuple[float, float]]:
    return [
        (point.carried.tokens / 1000, point.stall.behind_ms)
        for (its, _), point in sorted(sweep.items())
        if its in (kind, NOTHING)
    ]


def _beside(
    sweeps: Sequence[Sweep], carries: Rung, at_once: int, picture: tuple[str, int], text: tuple[str, int]
) -> Beside:
    pictures, texts = ([sweep[which] for sweep in sweeps] for which in (picture, text))
    pairs = list(zip(pictures, texts, strict=True))
    encode = [one.stall.behind_ms - other.stall.behind_ms for one, other in pairs]
    try:
        share = ratio(encode, [one.stall.behind_ms for one in pictures])
    except Undetermined:
        share = None
    return Beside(
        carries=carries,
        at_once=at_once,
        picture=_effect(pictures),
        text=_effect(texts),
        encode=mean_interval(encode),
        share=share,
        cut=mean_interval([one.stall.longest_ms - other.stall.longest_ms for one, other in pairs]),
    )


def _effect(found: Sequence[Point]) -> Effect:
    return Effect(
        behind=mean_interval([point.stall.behind_ms for point in found]),
        longest=mean_interval([point.stall.longest_ms for point in found]),
        ttft=mean_interval([point.carried.ttft_ms for point in found]),
    )


def _phases(sweeps: Sequence[Sweep], at: int, token_ms: float) -> Phases:
    pairs = [(sweep[PICTURE, at], sweep[TEXT, at]) for sweep in sweeps]
    encode = [picture.stall.behind_ms - text.stall.behind_ms for picture, text in pairs]
    longer = [picture.carried.ttft_ms - text.carried.ttft_ms for picture, text in pairs]
    return Phases(
        preparation=mean_interval([more - its for more, its in zip(longer, encode, strict=True)]),
        encode=mean_interval(encode),
        prefill=mean_interval([text.stall.behind_ms for _, text in pairs]),
        rest=mean_interval([text.carried.ttft_ms - text.stall.behind_ms for _, text in pairs]),
        token=token_ms,
    )


def _bursts(seen: Sequence[Point], sizes: Sequence[int], carries: Rung) -> Bursts | None:
    rounds = _whole(seen, {(kind, size) for kind in (PICTURES_AT_ONCE, TEXTS_AT_ONCE) for size in sizes})
    if len(rounds) < FEWEST_SWEEPS:
        return None
    pictures = [[(size, each[PICTURES_AT_ONCE, size].stall) for size in sorted(sizes)] for each in rounds]
    return Bursts(
        rounds=len(rounds),
        rows=tuple(
            _beside(rounds, carries, size, (PICTURES_AT_ONCE, size), (TEXTS_AT_ONCE, size)) for size in sorted(sizes)
        ),
        behind=_grown([[(size, each.behind_ms) for size, each in row] for row in pictures]),
        longest=_grown([[(size, each.longest_ms) for size, each in row] for row in pictures]),
    )


def _grown(blocks: Sequence[Sequence[tuple[float, float]]]) -> Grown:
    try:
        return Grown(*growth(blocks))
    except Undetermined as error:
        return Grown(None, str(error))
