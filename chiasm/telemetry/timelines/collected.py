"""What a whole cluster remembers of a time, gathered at one gateway: the answer of `/v1/chiasm/trace`."""

from collections import defaultdict
from collections.abc import Collection, Iterable

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from chiasm.nouns import Role, WorkerId
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.records import EngineCall, EngineRecords, Transfer
from chiasm.telemetry.timelines.clock_offsets import ClockOffset
from chiasm.telemetry.timelines.recollections import call_by_our_clock
from chiasm.telemetry.timelines.timeline import Timeline, assemble


class WorkerRecords(Struct, frozen=True):
    """What one worker's engine answered when it was asked, or why it did not."""

    worker: WorkerId
    role: Role
    node: str
    records: EngineRecords | None = None  # by the engine's clock
    clock: ClockOffset | None = None  # how far that is from the gateway's
    failure: str = ""


class ClusterRecords(Struct, frozen=True):
    """What the engines and the gateway remember."""

    now: float  # unix seconds of the gateway's clock, when all had answered
    workers: tuple[WorkerRecords, ...]  # all that are registered
    timelines: tuple[Timeline, ...]  # of the requests that went through this gateway
    whole_since: float  # of requests that ended before then, some are forgotten


def to_json(found: ClusterRecords) -> bytes:
    """As a gateway answers it. The encoder lets no other thread run, so it is given one worker or request at a time."""
    encode = msgspec.json.encode
    pieces = {
        "workers": [Raw(encode(worker)) for worker in found.workers],
        "timelines": [Raw(encode(timeline)) for timeline in found.timelines],
    }
    return encode(msgspec.structs.asdict(found) | pieces)


def assemble_all(requests: Iterable[Marks], workers: Collection[WorkerRecords], now: float) -> list[Timeline]:
    """The timelines of all these requests by `now`.

    Each is shown only the records that may be its own: to search all of them for each would take seconds.
    """
    clocks = {worker.worker: worker.clock for worker in workers if worker.clock is not None}
    shelves = {worker.worker: _Shelves(worker.records) for worker in workers if worker.records is not None}
    timelines = []
    for marks in requests:
        passed = {encode.worker for encode in marks.encodes} | {decode.worker for decode in marks.decodes}
        records = {worker: shelves[worker].of(marks) for worker in passed & shelves.keys()}
        timelines.append(assemble(marks, now, records, {worker: clocks[worker] for worker in passed & clocks.keys()}))
    return timelines


class _Shelves:
    """The records of one engine, by the request and the embeddings that they are about."""

    def __init__(self, records: EngineRecords) -> None:
        self._records = records
        self._calls: dict[str, list[EngineCall]] = defaultdict(list)
        self._transfers: dict[str, list[Transfer]] = defaultdict(list)
        for call in records.calls:
            self._calls[call.call.partition(".")[0]].append(call)
        for transfer in records.transfers:
            self._transfers[transfer.key].append(transfer)

    def of(self, marks: Marks) -> EngineRecords:
        """What may be of that request."""
        keys = {key for attempt in marks.decodes for key in attempt.keys}
        return EngineRecords(
            now=self._records.now,
            calls=tuple(self._calls.get(marks.request, ())),
            transfers=tuple(transfer for key in keys for transfer in self._transfers.get(key, ())),
            pauses=self._records.pauses,
        )


def by_our_clock(records: EngineRecords, clock: ClockOffset) -> EngineRecords:
    """The same records, with the times that our clock showed."""
    ours = clock.ours
    return EngineRecords(
        now=ours(records.now),
        calls=tuple(call_by_our_clock(call, clock) for call in records.calls),
        transfers=tuple(replace(each, began=ours(each.began), ended=ours(each.ended)) for each in records.transfers),
        steps=tuple(replace(step, ended=ours(step.ended)) for step in records.steps),
        pauses=tuple(
            replace(pause, wanted=ours(pause.wanted), began=ours(pause.began), ended=pause.ended and ours(pause.ended))
            for pause in records.pauses
        ),
        whole_since=records.whole_since and ours(records.whole_since),
    )
