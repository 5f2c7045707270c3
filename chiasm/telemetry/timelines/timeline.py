"""One request's timeline: what its gateway noted, divided by what its engines remember. Pure."""

import math
from collections.abc import Mapping

from msgspec import Struct

from chiasm.nouns import RequestId, Role, WorkerId
from chiasm.telemetry.marks import AttemptEnd, DecodeAttempt, EncodeAttempt, Marks, encoder_call
from chiasm.telemetry.records import EngineCall, EngineRecords, Phase
from chiasm.telemetry.timelines.clock_offsets import SAME_CLOCK, ClockOffset
from chiasm.telemetry.timelines.phase_cuts import Attempt, Generation, decode_spans, encode_spans
from chiasm.telemetry.timelines.recollections import Recollection
from chiasm.telemetry.timelines.spans import Span, with_self_seconds


class Timeline(Struct, frozen=True):
    """Where one request's time went.

    Its JSON form is `msgspec.to_builtins` of it: an object with these names, `spans` a list of objects with `Span`'s,
    phases by their names in `Phase`. Times are unix seconds of the gateway's clock, lengths are seconds.

    `self_seconds`, which has all phases, and `unattributed_seconds` together are `wall_seconds`, exactly.
    """

    request: RequestId
    arrived: float
    ended: float  # until now, if it has not
    wall_seconds: float
    outcome: str  # the label that it was counted under; empty if it is under way
    prompt_tokens: int  # the prompt's, cached ones too; 0 if no engine that had it tells
    output_tokens: int
    spans: tuple[Span, ...]  # by when they began
    self_seconds: dict[Phase, float]  # on the critical path, by phase
    unattributed_seconds: float  # of nothing that is known of: between the others, and until its client had it all
    clock_uncertainty_seconds: dict[WorkerId, float]
    missing: tuple[str, ...]  # what is not known, in words


def assemble(
    marks: Marks,
    now: float,
    records: Mapping[WorkerId, EngineRecords],
    clocks: Mapping[WorkerId, ClockOffset],
) -> Timeline:
    """The timeline of a request that has ended, or else that has come so far by `now` (of the gateway's clock).

    `records` are of the engines that could be asked. Whose clock is not in `clocks` shares the gateway's.
    """
    arrived = marks.arrived_at
    ended = max(arrived, now if marks.ended_at is None else marks.ended_at)
    engines = {worker: Recollection(of, clocks.get(worker, SAME_CLOCK)) for worker, of in records.items()}
    course = _Course(marks, engines, ended)
    spans = with_self_seconds(sorted(course.spans, key=lambda span: (span.began, span.ended)), arrived, ended)
    own = dict.fromkeys(Phase, 0.0)
    for span in spans:
        own[span.phase] += span.self_seconds
    return Timeline(
        request=marks.request,
        arrived=arrived,
        ended=ended,
        wall_seconds=ended - arrived,
        outcome=marks.outcome,
        prompt_tokens=course.prompt_tokens,
        output_tokens=marks.output_tokens,
        spans=tuple(spans),
        self_seconds=own,
        unattributed_seconds=ended - arrived - sum(own.values()),
        clock_uncertainty_seconds={worker: clock.uncertainty for worker, clock in clocks.items()},
        missing=tuple(course.missing),
    )


class _Course:
    """Goes through the marks of one request, and gathers its spans and what is not known of them."""

    def __init__(self, marks: Marks, engines: Mapping[WorkerId, Recollection], ended: float) -> None:
        self._marks = marks
        self._engines = engines
        self._ended = ended
        self._submitted = self._clamp(ended if marks.submitted_at is None else marks.submitted_at)
        self._encodes = [self._encode(index) for index in range(len(marks.encodes))]
        self._decodes = [self._decode(index) for index in range(len(marks.decodes))]
        self.spans: list[Span] = []
        self.missing: list[str] = []
        self.prompt_tokens = 0
        self._add(Span(Phase.FETCH, marks.arrived_at, self._submitted))
        for encode in self._encodes:
            self._add_encode(encode)
        for decode, mark in zip(self._decodes, marks.decodes, strict=True):
            self._add_decode(decode, mark)
        if marks.submitted_at is not None:
            self._add_last_wait()

    # -- attempts, from their posts to their ends ------------------------------------------------------------------

    def _encode(self, index: int) -> Attempt:
        encodes, mark = self._marks.encodes, self._marks.encodes[index]
        later = [other.posted_at for other in encodes[index + 1 :] if other.item == mark.item]
        later += [decode.posted_at for decode in self._marks.decodes if decode.posted_at >= mark.posted_at]
        number = 1 + sum(other.item == mark.item for other in encodes[:index])
        ended, ending = self._end(mark, mark.ended_at, later)
        return Attempt(
            mark.worker,
            number,
            self._clamp(mark.posted_at),
            ended,
            mark.tokens,
            ("retried",) if number > 1 else (),
            ending,
            mark.item,
            mark.nbytes,
        )

    def _decode(self, index: int) -> Attempt:
        decodes, mark = self._marks.decodes, self._marks.decodes[index]
        later = [other.posted_at for other in decodes[index + 1 :]]
        later += [encode.posted_at for encode in self._marks.encodes if encode.posted_at > mark.posted_at]
        # A client may leave when it has the last token, before anything else is said of its request.
        ended, ending = self._end(mark, mark.last_token_at if mark.ended_at is None else mark.ended_at, later)
        notes = [
            "stolen" if mark.role is Role.TEXT else "",
            "unsplit" if mark.role is Role.WHOLE and self._marks.item_tokens else "",
            ("continued" if decodes[index - 1].end is AttemptEnd.RETURNED else "retried") if index else "",
        ]
        began = self._clamp(mark.posted_at)
        return Attempt(mark.worker, index + 1, began, ended, mark.tokens, tuple(filter(None, notes)), ending)

    def _end(self, mark: EncodeAttempt | DecodeAttempt, own: float | None, later: list[float]) -> tuple[float, str]:
        """When an attempt was over for its request, and how, unless well: a later post means that it had been given up.

        The scheduler gives an attempt up when its worker is lost, while the call to it may go on for long.
        """
        superseded = min(later, default=math.inf)
        if own is not None and own <= superseded:
            ending = f"failed: {mark.failure}" if mark.end is AttemptEnd.FAILED else ""
            if mark.end is AttemptEnd.RETURNED:
                ending = AttemptEnd.RETURNED
        elif later:
            own, ending = superseded, "given up"
        else:
            own, ending = self._ended, self._unfinished
        return self._clamp(max(own, mark.posted_at)), ending

    @property
    def _unfinished(self) -> str:
        return "under way" if self._marks.ended_at is None else "broken off"

    # -- their spans, and the waits before them --------------------------------------------------------------------

    def _add_encode(self, encode: Attempt) -> None:
        before = [other.ended for other in self._encodes if other.item == encode.item and other.number < encode.number]
        before += [decode.ended for decode in self._decodes if decode.began < encode.began]
        wait = max([self._submitted, *before]), encode.began
        self._add(Span(Phase.ENCODE_QUEUE, *wait, encode.worker, encode.item, encode.number))
        assert encode.item is not None
        call = self._call(encode, encoder_call(self._marks.request, encode.item), f"the encode of item {encode.item}")
        self._add(*encode_spans(encode, call))

    def _add_decode(self, decode: Attempt, mark: DecodeAttempt) -> None:
        before = [encode.ended for encode in self._encodes if encode.began <= decode.began]
        before += [other.ended for other in self._decodes if other.number < decode.number]
        wait = max([self._submitted, *before]), decode.began
        self._add(Span(Phase.DECODE_QUEUE, *wait, decode.worker, attempt=decode.number))
        encoded = {encode.item for encode in self._encodes}
        for item in sorted(set(mark.keys.values()) - encoded):
            self._miss(
                f"item {item} was not encoded for this request: an encoder held it, or encoded it for another, which "
                "`chiasm explain` tells; what it waited for that counts as decode_queue"
            )
        call = self._call(decode, self._marks.request, "the call")
        if call is not None and not self.prompt_tokens:
            # Whoever continues an answer is given what stands of it as a part of the prompt.
            self.prompt_tokens = call.prompt_tokens - sum(other.tokens for other in self._decodes[: decode.number - 1])
        engine = self._engines.get(decode.worker)
        known = Generation(
            call=call,
            transfers=engine.transfers(mark.keys, decode.began, decode.ended) if engine else (),
            items=mark.keys,
            pauses=engine.pauses(decode.ended) if engine else (),
            streams=self._marks.streams,
            first_token_at=mark.first_token_at,
            last_token_at=mark.last_token_at,
        )
        self._add(*decode_spans(decode, known))

    def _add_last_wait(self) -> None:
        """What it waited for when it ended, unless it was with an engine."""
        since, answered = self._submitted, False
        if self._decodes:
            since, answered = self._decodes[-1].ended, not self._decodes[-1].ending
        if answered:
            return
        note = "" if self._marks.ended_at is not None else self._unfinished
        latest = {encode.item: encode for encode in self._encodes if not self._decodes or encode.began >= since}
        unencoded = {item: encode.ended for item, encode in latest.items() if encode.ending}
        if not self._decodes:
            unencoded |= {item: since for item in range(len(self._marks.item_tokens)) if item not in latest}
        for item, from_then in unencoded.items():
            self._add(Span(Phase.ENCODE_QUEUE, from_then, self._ended, item=item, note=note))
        if not unencoded:
            ready = max([since, *(encode.ended for encode in latest.values())])
            self._add(Span(Phase.DECODE_QUEUE, ready, self._ended, note=note))

    def _call(self, attempt: Attempt, name: str, what: str) -> EngineCall | None:
        engine = self._engines.get(attempt.worker)
        call = None if engine is None else engine.call(name, attempt.began, attempt.ended)
        if engine is None:
            self._miss(f"{attempt.worker} was not heard: what it did is not divided")
        elif attempt.ending == "under way":
            self._miss(f"{attempt.worker} tells of a call once it has ended")
        elif call is None and not attempt.ending:  # else it may never have begun there
            self._miss(f"{attempt.worker} no longer remembers {what}, so that it is not divided")
        return call

    def _add(self, *spans: Span) -> None:
        self.spans += [span for span in spans if span.began < span.ended]

    def _miss(self, what: str) -> None:
        if what not in self.missing:
            self.missing.append(what)

    def _clamp(self, at: float) -> float:
        return min(max(at, self._marks.arrived_at), self._ended)
