"""What one engine remembers of one request, by the gateway's clock."""

from collections.abc import Container

from msgspec.structs import replace

from chiasm.telemetry.records import EngineCall, EngineRecords, Transfer
from chiasm.telemetry.timelines.clock_offsets import ClockOffset


class Recollection:
    """The records of one engine, its times put onto our clock by `clock`."""

    def __init__(self, records: EngineRecords, clock: ClockOffset) -> None:
        self._records = records
        self._clock = clock

    def call(self, name: str, began: float, ended: float) -> EngineCall | None:
        """The engine's account of the call `name` that lasted from `began` to `ended`, as far as clocks can tell.

        Repeated attempts repeat the name, so the one that it shares the most time with is meant.
        """
        found = [call_by_our_clock(call, self._clock) for call in self._records.calls if call.call == name]
        shared = [min(ended, call.last_token) - max(began, call.arrived) for call in found]
        if not found or max(shared) < -self._clock.uncertainty:
            return None
        return found[shared.index(max(shared))]

    def transfers(self, keys: Container[str], began: float, ended: float) -> list[Transfer]:
        """The fetches of these embeddings that overlap the time from `began` to `ended`."""
        ours = self._clock.ours
        found = [
            replace(transfer, began=ours(transfer.began), ended=ours(transfer.ended))
            for transfer in self._records.transfers
            if transfer.key in keys
        ]
        return [transfer for transfer in found if transfer.began < ended and began < transfer.ended]

    def pauses(self, until: float) -> list[tuple[float, float]]:
        """From when to when the engine stood still; `until` then, if it still does."""
        ours = self._clock.ours
        return [(ours(pause.began), ours(pause.ended) if pause.ended else until) for pause in self._records.pauses]


def call_by_our_clock(call: EngineCall, clock: ClockOffset) -> EngineCall:
    """The same call, with the times that our clock showed."""
    ours = clock.ours
    return replace(
        call,
        arrived=ours(call.arrived),
        queued=ours(call.queued),
        scheduled=ours(call.scheduled),
        first_token=ours(call.first_token),
        last_token=ours(call.last_token),
    )
