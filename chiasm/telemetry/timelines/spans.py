"""The pieces of a timeline, and how much of its request's time each accounts for."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from chiasm.nouns import WorkerId
from chiasm.telemetry.records import Phase

WAITS = (Phase.ENCODE_QUEUE, Phase.DECODE_QUEUE)


class Span(Struct, frozen=True):
    """A request, or one of its items, was in one phase from `began` to `ended` (unix seconds of the gateway).

    A phase may take several spans, one after the other. The first of them has its tokens and bytes.
    """

    phase: Phase
    began: float
    ended: float
    worker: WorkerId | None = None  # where, or for whom it waited
    item: int | None = None  # which of the request's distinct items
    attempt: int | None = None  # at this item, or at the answer; the first is 1
    nbytes: int = 0  # of the embedding
    tokens: int = 0  # encoded, prefilled (those found in a cache not among them), or generated
    self_seconds: float = 0.0  # of it that the request took longer for it: never more than it lasted
    note: str = ""  # what is remarkable of it, comma-separated

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended - self.began


def with_self_seconds(spans: Sequence[Span], began: float, ended: float) -> list[Span]:
    """The same spans with the time that each has on the critical path of a request from `began` to `ended`.

    The path is walked from its end: what ended last had to be waited for, from its own beginning on; before that, what
    ended last by then; and so on. So each instant belongs to one span at most. Of several that a moment could follow
    from, work is preferred to waiting.
    """
    own = [0.0] * len(spans)
    at = ended
    while before := [index for index, span in enumerate(spans) if span.began < at and began < min(span.ended, at)]:
        index = max(before, key=lambda index: _nearness(spans[index], at))
        span = spans[index]
        start, end = max(span.began, began), min(span.ended, at)
        own[index] = end - start
        at = start
    return [replace(span, self_seconds=seconds) for span, seconds in zip(spans, own, strict=True)]


def _nearness(span: Span, at: float) -> tuple[float, float, bool, float]:
    """How likely `span` is what the moment `at` had to wait for.

    One that goes on beyond it comes after those that ended there, and before those that ended earlier: part of it had
    to be done by then, such as another transfer that shares the line.
    """
    return min(span.ended, at), min(0.0, at - span.ended), span.phase not in WAITS, span.began
