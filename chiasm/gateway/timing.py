"""Where one request's time went as far as a gateway can tell by itself: for its response, and for the metrics."""

import time
from collections.abc import Iterator

from chiasm.gateway.outcomes import ANSWERED, CLIENT_LEFT
from chiasm.messages import RejectReason
from chiasm.telemetry.marks import AttemptEnd, Marks
from chiasm.telemetry.metrics import GatewayMetrics
from chiasm.telemetry.records import Phase

_MEASURED_HERE = (Phase.FETCH, Phase.ENCODE_QUEUE, Phase.DECODE_QUEUE)
"""What no engine can measure; the other phases are in the metrics of the engines that did them."""

_ENDED_WAITING = (RejectReason.DEADLINE, CLIENT_LEFT)
"""Outcomes of requests that may have been waiting when they ended. The others ended by what happened to them; one that
is sent away as it comes has waited for nothing, and would only make the others' waits look shorter."""


class Timing:
    """One request's marks, and what is made of them while it runs."""

    def __init__(self, marks: Marks, metrics: GatewayMetrics) -> None:
        self.marks = marks
        self._arrived = time.monotonic()
        self._delivered_at: float | None = None  # the latest tokens of a stream
        self._metrics = metrics

    @property
    def _images(self) -> str:
        return "true" if self.marks.item_tokens else "false"

    def delivering(self) -> None:
        """The client of a stream gets tokens now, the first or more."""
        if self._delivered_at is None:
            self._metrics.first_token.labels(self._images).observe(time.monotonic() - self._arrived)
        else:
            self._metrics.stream_gaps.observe(time.monotonic() - self._delivered_at)

    def delivered(self) -> None:
        """It has them: how long it took to read them is no part of a gap."""
        self._delivered_at = time.monotonic()

    def server_timing(self) -> str:
        """The phases so far as the value of a `Server-Timing` header, in milliseconds."""
        return ", ".join(f"{phase};dur={seconds * 1000:.1f}" for phase, seconds in lengths(self.marks))

    def ended(self, outcome: str) -> None:
        """Nothing follows."""
        self.marks.ended(outcome)
        self._metrics.requests.labels(outcome).inc()
        if outcome == ANSWERED:
            self._metrics.request_seconds.labels(self._images).observe(time.monotonic() - self._arrived)
            self._metrics.output_tokens.labels(self._images).inc(self.marks.output_tokens)
        waits = unfinished_waits(self.marks) if outcome in _ENDED_WAITING else ()
        for phase, seconds in (*lengths(self.marks), *waits):
            if phase in _MEASURED_HERE:
                self._metrics.phases.labels(phase).observe(max(0.0, seconds))


def lengths(marks: Marks) -> Iterator[tuple[Phase, float]]:
    """The phases of a request, in seconds, as its gateway saw them from outside.

    An `encode` is from the post to the encoder's answer, a `prefill` from the post to the first token, and `decode`
    from there (or from the post, without a stream) to the end. Repeated attempts repeat their phases.
    """
    submitted = marks.submitted_at
    if submitted is None:
        return
    yield Phase.FETCH, submitted - marks.arrived_at
    encoded, decoded = [(encode.item, encode.ended_at) for encode in marks.encodes], [d.ended_at for d in marks.decodes]
    for encode in marks.encodes:
        before = [ended for item, ended in encoded if item == encode.item]
        yield Phase.ENCODE_QUEUE, encode.posted_at - _latest(submitted, encode.posted_at, before + decoded)
        if encode.ended_at is not None:
            yield Phase.ENCODE, encode.ended_at - encode.posted_at
    for decode in marks.decodes:
        before = [ended for _, ended in encoded]
        yield Phase.DECODE_QUEUE, decode.posted_at - _latest(submitted, decode.posted_at, before + decoded)
        if decode.first_token_at is not None:
            yield Phase.PREFILL, decode.first_token_at - decode.posted_at
        over = decode.ended_at if decode.last_token_at is None else decode.last_token_at
        if over is not None:
            yield Phase.DECODE, over - (decode.first_token_at or decode.posted_at)


def unfinished_waits(marks: Marks) -> Iterator[tuple[Phase, float]]:
    """What a request was waiting for when it ended, and for how many seconds it had; nothing if an engine had it."""
    since, over = marks.submitted_at, marks.ended_at
    if marks.decodes:
        last = marks.decodes[-1]
        since = None if last.end is AttemptEnd.ANSWERED else last.ended_at
    if since is None or over is None:
        return
    latest = {encode.item: encode for encode in marks.encodes if encode.posted_at >= since}
    waiting = {} if marks.decodes else {item: since for item in range(len(marks.item_tokens)) if item not in latest}
    for item, encode in latest.items():
        if encode.ended_at is not None and encode.end is AttemptEnd.FAILED:
            waiting[item] = encode.ended_at
    for began in waiting.values():
        yield Phase.ENCODE_QUEUE, over - began
    encoded = [encode.ended_at for encode in latest.values()]
    if not waiting and None not in encoded:
        yield Phase.DECODE_QUEUE, over - _latest(since, over, encoded)


def _latest(submitted: float, until: float, ended: list[float | None]) -> float:
    """When a wait began that was over at `until`: with the latest of what had ended before."""
    return max([submitted, *(at for at in ended if at is not None and at <= until)])
