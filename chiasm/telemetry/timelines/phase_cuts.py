"""How an attempt, from its post to its end as the gateway saw both, is cut into phases by what its engine remembers.

An engine's times only divide: they never reach beyond what the gateway saw itself, whatever its clock shows. Parts that
nothing tells apart stay one span, named after the one of them that is the longest by nature.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from chiasm.nouns import WorkerId
from chiasm.telemetry.records import EngineCall, Phase, Transfer
from chiasm.telemetry.timelines.spans import Span


class Attempt(Struct, frozen=True):
    """One post to one engine, as the gateway saw it."""

    worker: WorkerId
    number: int
    began: float
    ended: float
    tokens: int
    notes: tuple[str, ...]  # on all of it
    ending: str  # on the last of it: how it ended, unless well
    item: int | None = None
    nbytes: int = 0

    def span(self, phase: Phase, began: float, ended: float, *notes: str, tokens: int = 0, nbytes: int = 0) -> Span:
        """A part of it."""
        began, ended = self.clamp(began), self.clamp(ended)
        note = _noted(*self.notes, *notes)
        return Span(phase, began, ended, self.worker, self.item, self.number, nbytes, tokens, note=note)

    def clamp(self, at: float) -> float:
        """The moment of this attempt that is nearest to `at`."""
        return min(max(at, self.began), self.ended)


def encode_spans(attempt: Attempt, call: EngineCall | None) -> list[Span]:
    """An item at an encoder: preprocess, encode_queue, encode."""
    queued, scheduled = attempt.began, attempt.began
    if call is not None:
        queued = attempt.clamp(call.queued)
        scheduled = max(queued, attempt.clamp(call.scheduled))
        if attempt.ending and call.scheduled <= call.queued:
            scheduled = attempt.ended  # it never was
    spans = [
        attempt.span(Phase.PREPROCESS, attempt.began, queued),
        attempt.span(Phase.ENCODE_QUEUE, queued, scheduled),
        attempt.span(Phase.ENCODE, scheduled, attempt.ended, tokens=attempt.tokens, nbytes=attempt.nbytes),
    ]
    return _ended(spans, attempt.ending)


class Generation(Struct, frozen=True):
    """What is known of an attempt at the answer, beside what the gateway saw of any attempt. Times are ours."""

    call: EngineCall | None
    transfers: Sequence[Transfer]
    items: dict[str, int]  # by the keys of transfers
    pauses: Sequence[tuple[float, float]]
    streams: bool
    first_token_at: float | None
    last_token_at: float | None


def decode_spans(attempt: Attempt, known: Generation) -> list[Span]:
    """A request at an engine that generates: preprocess, decode_queue, transfers under it, prefill, decode."""
    call = known.call
    first = _first_token(attempt, known)
    until = attempt.ended if first is None else first
    last = attempt.ended if known.last_token_at is None else max(until, attempt.clamp(known.last_token_at))
    queued, scheduled = _queue(attempt, known, until)
    holes = [(transfer.began, transfer.ended) for transfer in known.transfers]
    preprocess = attempt.span(Phase.PREPROCESS, attempt.began, queued)
    waits = [attempt.span(Phase.DECODE_QUEUE, *piece) for piece in without(queued, scheduled, holes)]
    if first is None and call is None and not known.streams:
        # Nobody saw its first token. Nearly all of its steps are the decode's.
        work = [attempt.span(Phase.DECODE, scheduled, last, "with its prefill", tokens=attempt.tokens)]
    else:
        prompt_tokens = 0 if call is None else call.prompt_tokens - call.cached_tokens
        preempted = f"preempted {call.preemptions} times" if call is not None and call.preemptions else ""
        work = [
            attempt.span(Phase.PREFILL, scheduled, until, tokens=prompt_tokens),
            attempt.span(Phase.DECODE, until, last, preempted, tokens=attempt.tokens),
        ]
    spans = [preprocess, *waits, *(piece for span in work for piece in _paused(span, known.pauses))]
    landed = [_transfer_span(attempt, transfer, known.items[transfer.key], until) for transfer in known.transfers]
    return landed + _ended(spans, attempt.ending)


def without(began: float, ended: float, holes: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is left of the time from `began` to `ended`, in order."""
    left = []
    for hole_began, hole_ended in sorted(hole for hole in holes if hole[0] < hole[1]):
        if began < min(hole_began, ended):
            left.append((began, min(hole_began, ended)))
        began = max(began, hole_ended)
    return [*left, (began, ended)] if began < ended else left


def _first_token(attempt: Attempt, known: Generation) -> float | None:
    """The gateway's, of a stream; else the engine's, if it came so far."""
    if known.first_token_at is not None:
        return attempt.clamp(known.first_token_at)
    call = known.call
    if call is None or (attempt.ending and call.first_token <= call.scheduled):
        return None
    return attempt.clamp(call.first_token)


def _queue(attempt: Attempt, known: Generation, until: float) -> tuple[float, float]:
    """From when to when it waited in the engine: before it the prompt is made, after it its prefill runs.

    An engine that has forgotten the call may still know of its transfers: these are begun when it is queued, and it is
    scheduled when they have landed.
    """
    call = known.call
    if call is not None:
        queued, scheduled = call.queued, call.scheduled
        if attempt.ending and known.first_token_at is None and scheduled <= queued:
            scheduled = until  # it never was
    elif known.transfers:
        queued = min(transfer.began for transfer in known.transfers)
        scheduled = max(transfer.ended for transfer in known.transfers)
    else:
        queued = scheduled = attempt.began
    queued = min(attempt.clamp(queued), until)
    return queued, min(max(queued, attempt.clamp(scheduled)), until)


def _transfer_span(attempt: Attempt, transfer: Transfer, item: int, until: float) -> Span:
    failure = f"failed: {transfer.failure}" if transfer.failure else ""
    began, ended = max(attempt.began, transfer.began), min(until, transfer.ended)
    note = _noted(*attempt.notes, failure)
    return Span(Phase.TRANSFER, began, ended, attempt.worker, item, attempt.number, transfer.nbytes, note=note)


def _paused(span: Span, pauses: Sequence[tuple[float, float]]) -> list[Span]:
    """The span in pieces, with a note on those in which its engine stood still."""
    ran = without(span.began, span.ended, pauses)
    stood = without(span.began, span.ended, ran)
    pieces = sorted(
        [*((piece, span.note) for piece in ran), *((piece, _noted(span.note, "paused")) for piece in stood)]
    )
    spans = [replace(span, began=began, ended=ended, note=note) for (began, ended), note in pieces]
    return [*spans[:1], *(replace(piece, tokens=0) for piece in spans[1:])]


def _ended(spans: list[Span], ending: str) -> list[Span]:
    """The spans, with a note of how the attempt ended on the last that took any time."""
    last = max(range(len(spans)), key=lambda index: (spans[index].seconds > 0, index))
    return [replace(span, note=_noted(span.note, ending)) if n == last else span for n, span in enumerate(spans)]


def _noted(*notes: str) -> str:
    return ", ".join(filter(None, notes))
