"""Requests as a gateway would have marked them, told by seconds since their arrival."""

from collections.abc import Mapping
from typing import TypeVar

from msgspec.structs import asdict, replace

from chiasm.nouns import Embedding, Item, ItemUuid, RequestId, Role, WorkerId
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.records import EngineCall, EngineRecords, Pause, Transfer
from chiasm.telemetry.timelines.clock_offsets import ClockOffset
from chiasm.telemetry.timelines.spans import Span
from chiasm.telemetry.timelines.timeline import Timeline, assemble

T = 1_800_000_000.0
"""When they arrive."""

REQUEST = RequestId("r")
ENCODER, OTHER_ENCODER = WorkerId("encoder-0"), WorkerId("encoder-1")
DECODER, OTHER_DECODER = WorkerId("decoder-0"), WorkerId("decoder-1")
THIEF, WHOLE = WorkerId("encoder-0-text"), WorkerId("whole-0")
U0, U1 = ItemUuid("u0"), ItemUuid("u1")


class Told:
    """`at(seconds)` gives the marks of a request, for what happens to it then."""

    def __init__(self) -> None:
        self._now = T
        self._marks = Marks(REQUEST, lambda: self._now)

    def at(self, seconds: float) -> Marks:
        self._now = T + seconds
        return self._marks

    def timeline(
        self,
        records: Mapping[WorkerId, EngineRecords] | None = None,
        clocks: Mapping[WorkerId, ClockOffset] | None = None,
        now: float = 1000.0,
    ) -> Timeline:
        return assemble(self._marks, T + now, records or {}, clocks or {})


def items(*uuids: ItemUuid) -> list[Item]:
    return [Item(uuid, "image", 64) for uuid in uuids]


def embeddings(*uuids: ItemUuid) -> list[Embedding]:
    return [Embedding(uuid, f"key-{uuid}", "image", {}, "tcp://e:1", (70, 8), "float32") for uuid in uuids]


def call(
    name: str, arrived: float, queued: float, scheduled: float, first: float, last: float, **more: int
) -> EngineCall:
    counts = {"prompt_tokens": 100, "cached_tokens": 0, "output_tokens": 20, "preemptions": 0} | more
    times = [T + seconds for seconds in (arrived, queued, scheduled, first, last)]
    return EngineCall(name, *times, **counts, finish="stop")


def transfer(uuid: ItemUuid, began: float, ended: float, failure: str = "") -> Transfer:
    return Transfer(f"key-{uuid}", T + began, T + ended, 2240, failure)


def pause(began: float, ended: float) -> Pause:
    return Pause(T + began, T + began, T + ended if ended else 0.0)


def remembered(*records: EngineCall | Transfer | Pause, ahead: float = 0.0) -> EngineRecords:
    """What an engine answers whose clock is ahead by so many seconds."""
    here = EngineRecords(
        now=T + 1000,
        calls=tuple(record for record in records if isinstance(record, EngineCall)),
        transfers=tuple(record for record in records if isinstance(record, Transfer)),
        pauses=tuple(record for record in records if isinstance(record, Pause)),
    )
    return shifted(here, ahead)


def shifted(records: EngineRecords, ahead: float) -> EngineRecords:
    """What it would answer if its clock were ahead by so many seconds more."""
    return EngineRecords(
        now=records.now + ahead,
        calls=tuple(_ahead(call, ahead) for call in records.calls),
        transfers=tuple(_ahead(transfer, ahead) for transfer in records.transfers),
        pauses=tuple(_ahead(pause, ahead) for pause in records.pauses),
    )


Kept = TypeVar("Kept", EngineCall, Transfer, Pause)


def _ahead(record: Kept, seconds: float) -> Kept:
    times = {name: at + seconds for name, at in asdict(record).items() if isinstance(at, float) and at}
    return replace(record, **times)


Row = tuple[str, float, float, float, str]


def rows(spans: tuple[Span, ...]) -> list[Row]:
    """Phase, beginning, end, self time and note of each, in seconds since the arrival."""
    return [
        (span.phase.value, *(round(at, 3) for at in (span.began - T, span.ended - T, span.self_seconds)), span.note)
        for span in spans
    ]


def image_request() -> Told:
    """A streamed answer about one image, in 4.6 s."""
    told = Told()
    told.at(0.1).submitted(items(U0), streams=True)
    attempt = told.at(0.3).encode_posted(U0, ENCODER)
    told.at(1.0).encode_answered(attempt, tokens=70, nbytes=2240)
    told.at(1.2).decode_posted(DECODER, Role.DECODER, embeddings(U0))
    told.at(2.6).first_token()
    told.at(4.5).last_token()
    told.at(4.55).decode_answered(tokens=20)
    told.at(4.6).ended("answered")
    return told


def image_records(encoder_ahead: float = 0.0, decoder_ahead: float = 0.0) -> dict[WorkerId, EngineRecords]:
    """What its engines remember of it."""
    return {
        ENCODER: remembered(call("r.0", 0.31, 0.4, 0.5, 0.9, 0.9), ahead=encoder_ahead),
        DECODER: remembered(
            call("r", 1.21, 1.3, 1.8, 2.5, 4.4, cached_tokens=16), transfer(U0, 1.4, 1.7), ahead=decoder_ahead
        ),
    }


def stolen_and_given_back() -> Timeline:
    told = Told()
    told.at(0.1).submitted((), streams=True)
    told.at(0.2).decode_posted(THIEF, Role.TEXT, ())
    told.at(0.5).first_token()
    told.at(2.0).decode_returned(8)
    told.at(2.3).decode_posted(DECODER, Role.DECODER, ())
    told.at(2.6).first_token()
    told.at(3.0).last_token()
    told.at(3.0).decode_answered(4)
    told.at(3.0).ended("answered")
    records = {
        THIEF: remembered(
            call("r", 0.2, 0.3, 0.4, 0.5, 1.9), pause(-3, -2), pause(0.6, 0.8), pause(0.7, 0.9), pause(1.5, 0)
        ),
        DECODER: remembered(call("r", 2.3, 2.4, 2.5, 2.6, 3.0)),
    }
    return told.timeline(records)
