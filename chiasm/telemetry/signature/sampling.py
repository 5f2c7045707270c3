"""Counters read at a steady interval while phases run, and which phase each reading belongs to."""

import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol

from chiasm.telemetry.signature.counters import WINDOW_S, WINDOWED

INTERVAL_S = 0.1
JOIN_TIMEOUT_S = 10.0


class Counters(Protocol):
    """Something that can be read again and again, e.g. `CardCounters`."""

    def read(self) -> dict[str, float]:
        """Values by name."""


@dataclass(frozen=True)
class Reading:
    """Values of the time from `start` to `end`, on the monotonic clock."""

    start: float
    end: float
    values: dict[str, float]


@dataclass(frozen=True)
class Span:
    """When something ran."""

    name: str
    start: float
    end: float


def means_by_span(
    readings: Sequence[Reading], spans: Sequence[Span], windowed: Container[str] = (), window_s: float = 0.0
) -> dict[str, dict[str, float]]:
    """Means of what was read wholly within the spans of each name, and `samples`, how many readings those were.

    A reading that also saw what came before or after a span tells of neither: it is left out. A value that is
    `windowed` saw the last `window_s` before the reading's end, so that those of a span's first `window_s` are too.
    """
    values: dict[str, dict[str, list[float]]] = {}
    samples: dict[str, int] = {}
    for span in spans:
        for reading in readings:
            if span.start <= reading.start and reading.end <= span.end:
                samples[span.name] = samples.get(span.name, 0) + 1
                for key, value in reading.values.items():
                    if key not in windowed or span.start <= reading.end - window_s:
                        values.setdefault(span.name, {}).setdefault(key, []).append(value)
    return {
        name: {"samples": float(count)} | {key: fmean(those) for key, those in values.get(name, {}).items()}
        for name, count in samples.items()
    }


class Sampler:
    """Reads counters on a thread of its own, from `start` to `stop`; marks what ran meanwhile."""

    def __init__(
        self, counters: Counters, interval_s: float = INTERVAL_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._counters = counters
        self._interval_s = interval_s
        self._clock = clock
        self._readings: list[Reading] = []
        self._spans: list[Span] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chiasm-counters", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """What runs inside is called so."""
        start = self._clock()
        yield
        self._spans.append(Span(name, start, self._clock()))

    def stop(self) -> dict[str, dict[str, float]]:
        """End the thread; means by the name of the span.

        Raises:
            TimeoutError: the thread did not end, since a reading blocks.
        """
        self._stopping.set()
        self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            raise TimeoutError("a reading of the counters did not end")
        return means_by_span(self._readings, self._spans, WINDOWED, WINDOW_S)

    def _run(self) -> None:
        last = self._clock()
        self._counters.read()  # where the counters tell of the time since the last reading, this one is the first
        while not self._stopping.wait(self._interval_s):
            values = self._counters.read()
            now = self._clock()
            self._readings.append(Reading(last, now, values))
            last = now
