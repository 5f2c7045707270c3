"""What an engine's API server remembers of its engine: the rings, who fills them, and what is handed out when asked.

One in a process, for its event loop alone. Imports neither vLLM nor anything heavier than msgspec.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from chiasm.telemetry.records import EngineCall, EngineRecords, Pause, Ring, Shelves, Step, Transfer
from chiasm.wire.settings import RUNTIME_VARIABLE

RECORDS_VARIABLE = "CHIASM_RECORDS"
"""Environment variable of an engine's processes: "0" if it is to remember nothing."""

CALLS_KEPT = 4096
TRANSFERS_KEPT = 4096
STEPS_KEPT = 16384  # minutes of an engine on a GPU; some 6 MB
PAUSES_KEPT = 1024


def recording() -> bool:
    """Whether this process belongs to an engine that Chiasm started, and is to remember what it does."""
    return RUNTIME_VARIABLE in os.environ and os.environ.get(RECORDS_VARIABLE) != "0"


@dataclass
class Answering:
    """An HTTP request that the API server is answering."""

    arrived: float
    prepared: float | None = None  # its input was made, and handed to the engine


class EngineMemory:
    """The records of one engine. All times are unix seconds."""

    def __init__(self) -> None:
        self.answering: dict[str, Answering] = {}  # by the id of the call
        # By their requests; and when each ended.
        self._calls: Shelves[tuple[float, EngineCall]] = Shelves(CALLS_KEPT, lambda of: _request(of[1].call))
        self._transfers: Shelves[Transfer] = Shelves(TRANSFERS_KEPT, lambda transfer: transfer.key)
        self._steps: Ring[Step] = Ring(STEPS_KEPT)
        self._pauses: Ring[Pause] = Ring(PAUSES_KEPT)
        self._standing: Pause | None = None

    def call_ended(self, call: EngineCall, ended: float) -> None:
        """The engine is done with a call, whether or not it got as far as its last token."""
        self._calls.add((ended, call))

    def transferred(self, transfer: Transfer) -> None:
        """An embedding has come, or failed to."""
        self._transfers.add(transfer)

    def stepped(self, step: Step) -> None:
        """One more step is done."""
        self._steps.add(step)

    def stood_still(self, wanted: float, began: float) -> None:
        """The engine was paused; being told so again while it stands still changes nothing."""
        self._standing = self._standing or Pause(wanted, began, 0.0)

    def went_on(self, ended: float) -> None:
        """The engine was told to go on, if it stood still."""
        if self._standing is not None:
            self._pauses.add(Pause(self._standing.wanted, self._standing.began, ended))
            self._standing = None

    def of_call(self, call: str, keys: Iterable[str], now: float) -> EngineRecords:
        """Calls of that id or beginning with it and a dot, and the pauses, and the transfers of these `keys`, that
        overlap any of them.
        """
        near = self._calls.of(_request(call))
        found = [(ended, each) for ended, each in near if each.call == call or each.call.startswith(f"{call}.")]

        def overlaps(began: float, ended: float) -> bool:
            return any(began <= call_ended and each.arrived <= ended for call_ended, each in found)

        return EngineRecords(
            now=now,
            calls=tuple(each for _, each in found),
            transfers=tuple(
                each for key in keys for each in self._transfers.of(key) if overlaps(each.began, each.ended)
            ),
            pauses=tuple(each for each in self._all_pauses() if overlaps(each.wanted, each.ended or now)),
        )

    def since(self, moment: float, now: float) -> EngineRecords:
        """Everything that ended at `moment` or later, and a pause that lasts."""
        return EngineRecords(
            now=now,
            calls=tuple(each for ended, each in self._calls if ended >= moment),
            transfers=tuple(each for each in self._transfers if each.ended >= moment),
            steps=tuple(each for each in self._steps if each.ended >= moment),
            pauses=tuple(each for each in self._all_pauses() if (each.ended or now) >= moment),
            whole_since=max(
                self._calls.whole_since(lambda of: of[0]),
                self._transfers.whole_since(lambda transfer: transfer.ended),
                self._steps.whole_since(lambda step: step.ended),
                self._pauses.whole_since(lambda pause: pause.ended),
            ),
        )

    def _all_pauses(self) -> list[Pause]:
        return [*self._pauses, *([self._standing] if self._standing is not None else [])]


def _request(call: str) -> str:
    return call.partition(".")[0]


@cache
def engine_memory() -> EngineMemory:
    """The one of this process."""
    return EngineMemory()
