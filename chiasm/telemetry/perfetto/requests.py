"""One request's timeline as slices, and which of its spans follow from which."""

from collections.abc import Iterator, Sequence

from chiasm.nouns import WorkerId
from chiasm.telemetry.marks import AttemptEnd
from chiasm.telemetry.perfetto.events import Slice, values
from chiasm.telemetry.records import Phase
from chiasm.telemetry.timelines.spans import Span
from chiasm.telemetry.timelines.timeline import Timeline


def request_slice(timeline: Timeline) -> Slice:
    """The request as its client saw it, with what each phase added to that."""
    about = values(
        request=timeline.request,
        outcome=timeline.outcome or "under way",
        output_tokens=timeline.output_tokens,
        unknown="; ".join(timeline.missing),
    )
    costs = {f"{phase}_self_ms": _ms(seconds) for phase, seconds in timeline.self_seconds.items()}
    return Slice("request", timeline.arrived, timeline.ended, {**about, **values(**costs)})


def span_slice(timeline: Timeline, span: Span) -> Slice:
    """One span of it."""
    about = values(
        request=timeline.request,
        item="" if span.item is None else str(span.item),
        attempt=span.attempt or 0,
        tokens=span.tokens,
        bytes=span.nbytes,
        self_ms=_ms(span.self_seconds),
        note=span.note,
    )
    return Slice(span.phase, span.began, span.ended, about)


def moves(timeline: Timeline) -> Iterator[tuple[WorkerId, Slice]]:
    """When thieves took it, and when they gave it back, each with its thief."""
    stolen = set()
    for span in timeline.spans:
        notes = span.note.split(", ")
        if span.worker is None or "stolen" not in notes:
            continue
        about = values(request=timeline.request)
        if span.attempt not in stolen:
            stolen.add(span.attempt)
            yield span.worker, Slice("steal", span.began, span.began, about)
        if AttemptEnd.RETURNED in notes:
            yield span.worker, Slice("return", span.ended, span.ended, about)


def follows(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """Pairs of indexes of spans, the second of which follows from the first. `spans` are by when they began.

    ::

        fetch ─► encode_queue ─► preprocess ─► encode ─┬─► transfer ───────────────────┬─► prefill ─► decode
                 (and so for every other item)         └─► decode_queue ─► preprocess ─┘
    """
    begin: list[int] = []
    items: dict[int, int] = {}  # the latest span of each
    landed: list[int] = []  # transfers that no prefill has followed yet
    answer: list[int] = []  # the latest span of the request itself
    for index, span in enumerate(spans):
        if span.phase is Phase.FETCH:
            begin = [index]
            continue
        if span.item is None:
            sources = answer or list(items.values()) or begin
            if span.phase in (Phase.PREFILL, Phase.DECODE):
                sources = sources + landed
                landed = []
            answer = [index]
        else:
            sources = [items[span.item]] if span.item in items else begin
            if span.phase is Phase.TRANSFER:
                landed.append(index)
            else:
                items[span.item] = index
        yield from ((source, index) for source in sources)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
