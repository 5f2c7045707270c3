"""The format of a trace file: Chrome's trace events as JSON, which Perfetto and chrome://tracing open.

Knows processes, tracks, slices, counters and arrows, and nothing of what they stand for. Times that are handed in are
unix seconds; in the file they are whole microseconds since the trace began, which is as fine as unix seconds are in a
float. Each event is written at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Struct

Values = Mapping[str, str | int | float]

_FIRST_TRACK = 1001  # beyond the numbers of processes: a track with the number of its own would be its main thread
_FLOW = {"cat": "flow", "name": "flow"}


def values(**given: str | int | float) -> Values:
    """Those that say something: neither 0 nor empty."""
    return {name: value for name, value in given.items() if value}


class Slice(Struct, frozen=True):
    """Something that lasted. `values` are shown when it is selected."""

    name: str
    began: float  # unix seconds
    ended: float
    values: Values = {}


class Place(NamedTuple):
    """Where a slice has come to lie, which is what arrows go by."""

    process: int
    track: int
    began: int  # microseconds since the trace began
    ended: int


class Sink(Protocol):
    """What is needed of a file in text mode."""

    def write(self, text: str, /) -> object:
        """Append."""


class TraceEvents:
    """One trace; complete when `end` has been called."""

    def __init__(self, sink: Sink, began: float, about: Mapping[str, Any]) -> None:
        """`began`: nothing before it is shown. `about`: what the file's metadata say beside it."""
        self._sink = sink
        self._began = began
        self._encoder = msgspec.json.Encoder()
        self._processes = 0
        self._tracks = count(_FIRST_TRACK)  # told apart across processes, too
        self._arrows = 0
        self._separator = ""
        metadata = self._json({"began": began, **about})
        sink.write(f'{{"displayTimeUnit":"ms","metadata":{metadata},"traceEvents":[\n')

    def end(self) -> None:
        """Nothing follows."""
        self._sink.write("\n]}\n")

    def process(self, name: str) -> "Process":
        """A group of tracks, shown below those before it."""
        self._processes += 1
        return Process(self, self._processes, name, self._tracks)

    def arrow(self, source: Place, target: Place) -> None:
        """From one slice to another that began later, or at least ended later."""
        at = max(source.began, target.began)
        if at >= target.ended:
            return
        self._arrows += 1
        # Each belongs to the slice of its track that contains its moment.
        for phase, place, moment in (("s", source, source.began), ("f", target, at)):
            event = {"ph": phase, "pid": place.process, "tid": place.track, "ts": moment, "id": self._arrows}
            self.write({**event, **_FLOW, "bp": "e"})

    def micros(self, at: float) -> int:
        """A moment as it stands in the file."""
        return round((at - self._began) * 1e6)

    def write(self, event: Mapping[str, Any]) -> None:
        """One event, in the format's own words."""
        self._sink.write(self._separator + self._json(event))
        self._separator = ",\n"

    def _json(self, content: Mapping[str, Any]) -> str:
        return self._encoder.encode(content).decode()


class Process:
    """A group of tracks and counters under one name."""

    def __init__(self, trace: TraceEvents, number: int, name: str, tracks: Iterator[int]) -> None:
        """`tracks` are numbers for its tracks."""
        self._trace = trace
        self._number = number
        self._tracks = tracks
        self._describe(number, "process_name", name=name)
        self._describe(number, "process_sort_index", sort_index=number)

    def slices(self, name: str, slices: Sequence[Slice]) -> list[Place]:
        """A track, and further ones of that name where slices overlap; where each slice has come to lie.

        What began before the trace is cut, and its values say so. All must have ended after that.
        """
        micros = self._trace.micros
        # A slice of no length could not be the end of an arrow.
        spans = [(max(0, micros(each.began)), max(1, micros(each.began) + 1, micros(each.ended))) for each in slices]
        lanes: list[tuple[int, int]] = []  # the track of each, and until when it is taken
        places: dict[int, Place] = {}
        for index in sorted(range(len(spans)), key=lambda index: spans[index]):
            began, ended = spans[index]
            lane = next((lane for lane, (_, taken) in enumerate(lanes) if taken <= began), len(lanes))
            if lane == len(lanes):
                lanes.append((self._track(f"{name} ({lane + 1})" if lane else name), 0))
            track = lanes[lane][0]
            lanes[lane] = (track, ended)
            places[index] = Place(self._number, track, began, ended)
            self._slice(slices[index], places[index])
        return [places[index] for index in range(len(spans))]

    def instants(self, name: str, instants: Iterable[Slice]) -> None:
        """A track of what happened in one moment each, when the slice began; nothing if there is none."""
        track = 0
        for each in instants:
            track = track or self._track(name)
            at = max(0, self._trace.micros(each.began))
            event = {"ph": "i", "s": "t", "pid": self._number, "tid": track, "ts": at}
            self._trace.write({**event, "name": each.name, "args": each.values})

    def counts(self, name: str, at: float, values: Mapping[str, float]) -> None:
        """How much there was of each, from `at` on: a track for each, called `name` and what is counted."""
        event = {"ph": "C", "pid": self._number, "ts": max(0, self._trace.micros(at)), "name": name}
        self._trace.write({**event, "args": values})

    def _slice(self, each: Slice, place: Place) -> None:
        began = self._trace.micros(each.began)
        values = {**each.values, "seconds_before_the_trace": -began / 1e6} if began < 0 else each.values
        event = {"ph": "X", "pid": place.process, "tid": place.track, "ts": place.began}
        self._trace.write({**event, "dur": place.ended - place.began, "name": each.name, "args": values})

    def _track(self, name: str) -> int:
        track = next(self._tracks)
        self._describe(track, "thread_name", name=name)
        self._describe(track, "thread_sort_index", sort_index=track)
        return track

    def _describe(self, track: int, what: str, **values: str | int) -> None:
        self._trace.write({"ph": "M", "pid": self._number, "tid": track, "name": what, "args": values})
