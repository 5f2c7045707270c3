"""The layout: which process and which track shows what.

::

    gateway      requests, and what they went through before they were given to a worker
    scheduler    counters of its queues
    encoder-0    steps, pauses, a track for each phase that requests were in there, steals and returns, counters
      …          and so each worker; a text engine comes after the encoder whose card it shares
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from chiasm.nouns import Role
from chiasm.telemetry.perfetto.engines import call_slices, pause_slices, percent, step_slices, transfer_slice
from chiasm.telemetry.perfetto.events import Place, Process, Sink, Slice, TraceEvents
from chiasm.telemetry.perfetto.requests import follows, moves, request_slice, span_slice
from chiasm.telemetry.records import EngineRecords, Phase, Step
from chiasm.telemetry.timelines.collected import ClusterRecords, WorkerRecords, by_our_clock
from chiasm.telemetry.timelines.timeline import Timeline

GATEWAY, SCHEDULER = "gateway", "scheduler"

_TRACKS = ("steps", "pauses", "requests", *Phase)

# A text engine is called after the encoder whose card it shares, so the order of names does the rest.
_ORDER = {Role.ENCODER: 0, Role.TEXT: 0, Role.DECODER: 1, Role.WHOLE: 2}


_Spot = tuple[str, str, int]  # a process, a track, and which of its slices


class Sample(Struct, frozen=True):
    """The scheduler's status at one moment."""

    at: float  # unix seconds of the gateway's clock
    status: Mapping[str, Any]  # the answer of `/v1/chiasm/status`


class Profile(Struct, frozen=True):
    """All that is known of the time from `began` to `ended`, unix seconds of the gateway's clock."""

    began: float
    ended: float
    records: ClusterRecords
    samples: tuple[Sample, ...]


def write_trace(sink: Sink, profile: Profile) -> None:
    """Write a profile as a trace."""
    workers = sorted(profile.records.workers, key=_order)
    engines: dict[str, EngineRecords] = {
        worker.worker: by_our_clock(worker.records, worker.clock)
        for worker in workers
        if worker.records is not None and worker.clock is not None
    }
    rows = _Rows(profile.began)
    for timeline in profile.records.timelines:
        rows.add_request(timeline)
    for worker in workers:
        if worker.worker in engines:
            rows.add_engine(worker, engines[worker.worker], profile.ended)
    about = {
        worker.worker: {"role": worker.role, "node": worker.node, "clock_ahead": worker.clock} for worker in workers
    }
    trace = TraceEvents(sink, profile.began, {"ended": profile.ended, "workers": about})
    rows.write(GATEWAY, trace.process(GATEWAY))
    _count_requests(trace.process(SCHEDULER), profile.samples)
    gone = rows.processes - {GATEWAY, *about}  # engines that requests went through, and that are no more
    for name in (*about, *sorted(gone)):
        process = trace.process(name)
        rows.write(name, process)
        if name in engines:
            _count_in_engine(process, [step for step in engines[name].steps if step.ended > profile.began])
    rows.write_arrows(trace)
    trace.end()


def _order(worker: WorkerRecords) -> tuple[int, list[Any]]:
    parts = re.split(r"(\d+)", worker.worker)
    return _ORDER[worker.role], [int(part) if part.isdigit() else part for part in parts]


class _Rows:
    """Slices by process and track until they are written, and then where each has come to lie."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._slices: dict[tuple[str, str], list[Slice]] = defaultdict(list)
        self._moves: dict[str, list[Slice]] = defaultdict(list)
        self._arrows: list[tuple[_Spot, _Spot]] = []
        self._places: dict[tuple[str, str], list[Place]] = {}
        self._requests: set[str] = set()
        self._fetched: set[tuple[str, int, int]] = set()

    @property
    def processes(self) -> set[str]:
        """Those that have any."""
        return {process for process, _ in self._slices}

    def add_request(self, timeline: Timeline) -> None:
        """What is known of one request, and how one thing led to another."""
        self._requests.add(timeline.request)
        self._add(GATEWAY, "requests", request_slice(timeline))
        spots = []
        for span in timeline.spans:
            process = span.worker or GATEWAY
            spots.append(self._add(process, span.phase, span_slice(timeline, span)))
            if span.phase is Phase.TRANSFER:
                self._fetched.add(_identity(process, span.began, span.nbytes))
        for source, target in follows(timeline.spans):
            if (from_there := spots[source]) is not None and (to_there := spots[target]) is not None:
                self._arrows.append((from_there, to_there))
        for worker, move in moves(timeline):
            if move.began >= self._began:
                self._moves[worker].append(move)

    def add_engine(self, worker: WorkerRecords, records: EngineRecords, until: float) -> None:
        """What an engine remembers, by our clock, unless the requests that were added have told of it already."""
        name = worker.worker
        for each in step_slices(records):
            self._add(name, "steps", each)
        for pause in records.pauses:
            for each in pause_slices(pause, until):
                self._add(name, "pauses", each)
        for call in records.calls:
            if call.call.partition(".")[0] not in self._requests:
                for each in call_slices(call, worker.role):
                    self._add(name, each.name, each)
        for transfer in records.transfers:
            if _identity(name, transfer.began, transfer.nbytes) not in self._fetched:
                self._add(name, Phase.TRANSFER, transfer_slice(transfer))

    def write(self, name: str, process: Process) -> None:
        """The tracks of one process."""
        for track in _TRACKS:
            if slices := self._slices.get((name, track)):
                self._places[name, track] = process.slices(track, slices)
        process.instants("steals and returns", self._moves.get(name, ()))

    def write_arrows(self, trace: TraceEvents) -> None:
        """Once all processes have been written."""
        for source, target in self._arrows:
            trace.arrow(self._place(source), self._place(target))

    def _place(self, spot: _Spot) -> Place:
        process, track, index = spot
        return self._places[process, track][index]

    def _add(self, process: str, track: str, each: Slice) -> _Spot | None:
        if each.ended <= self._began:
            return None
        slices = self._slices[process, track]
        slices.append(each)
        return process, track, len(slices) - 1


def _identity(process: str, began: float, nbytes: int) -> tuple[str, int, int]:
    """What a transfer is known by, in the records of an engine and in a timeline made of them."""
    return process, round(began * 1e6), nbytes


def _count_requests(process: Process, samples: Iterable[Sample]) -> None:
    for sample in samples:
        status = sample.status
        process.counts("requests", sample.at, {name: status[name] for name in ("encoding", "withheld", "decoding")})
        process.counts("withheld for", sample.at, {each["worker"]: each["waiting"] for each in status["workers"]})


def _count_in_engine(process: Process, steps: Sequence[Step]) -> None:
    caches = any(step.kv_part for step in steps)
    for step in steps:
        process.counts("requests", step.ended, {"running": step.running, "waiting": step.waiting})
        if caches:
            process.counts("KV cache", step.ended, {"percent": percent(step.kv_part)})
