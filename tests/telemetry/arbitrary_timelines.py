"""Timelines of marks and records that make little sense, or none."""

from hypothesis import strategies as st
from told_requests import T, Told, embeddings, items

from chiasm.nouns import ItemUuid, Role, WorkerId
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.records import EngineCall, EngineRecords, Pause, Transfer
from chiasm.telemetry.timelines.clock_offsets import ClockOffset

WORKERS = st.sampled_from([WorkerId(f"w{n}") for n in range(2)])
UUIDS = [ItemUuid(f"u{n}") for n in range(2)]

# Few distinct times, so that they often coincide; and any others.
SECONDS = st.integers(-3, 12).map(float) | st.floats(-100, 100)
FAR = SECONDS | st.floats(-1e9, 1e9)
MOMENTS = FAR.map(lambda seconds: T + seconds)
COUNTS = st.integers(0, 1000)

CALLS = st.builds(
    EngineCall,
    st.sampled_from(["r", "r.0", "r.1", "another"]),
    *[MOMENTS] * 5,
    *[COUNTS] * 4,
    st.sampled_from(["stop", "abort"]),
)
TRANSFERS = st.builds(
    Transfer, st.sampled_from([f"key-{uuid}" for uuid in UUIDS]), MOMENTS, MOMENTS, COUNTS, st.sampled_from(["", "no"])
)
PAUSES = st.builds(Pause, MOMENTS, MOMENTS, MOMENTS | st.just(0.0))
RECORDS = st.builds(
    EngineRecords,
    now=MOMENTS,
    calls=st.lists(CALLS, max_size=4).map(tuple),
    transfers=st.lists(TRANSFERS, max_size=4).map(tuple),
    pauses=st.lists(PAUSES, max_size=3).map(tuple),
)
CLOCKS = st.builds(ClockOffset, FAR, st.floats(0, 1e6))


@st.composite
def tellings(draw: st.DrawFn) -> Told:
    """A request of which things are told in an order that its gateway could tell, at times that it could not."""
    told = Told()
    if draw(st.booleans()):
        asked = draw(st.lists(st.sampled_from(UUIDS), max_size=4))
        told.at(draw(SECONDS)).submitted(items(*asked), draw(st.booleans()))
        for _ in range(draw(st.integers(0, 12))):
            happens(draw, told.at(draw(SECONDS)), list(dict.fromkeys(asked)))
    if draw(st.booleans()):
        told.at(draw(SECONDS)).ended("answered")
    return told


def happens(draw: st.DrawFn, marks: Marks, uuids: list[ItemUuid]) -> None:
    """One thing that can be told of a request with these items after what has been told of it."""
    acts = ["decode_posted"]
    acts += ["encode_posted"] if uuids else []
    acts += ["encode_answered", "encode_failed"] if marks.encodes else []
    acts += ["first_token", "last_token", "answered", "returned", "failed"] if marks.decodes else []
    match draw(st.sampled_from(acts)):
        case "decode_posted":
            held = draw(st.sampled_from([uuids, uuids[:1], []]))
            marks.decode_posted(draw(WORKERS), draw(st.sampled_from(Role)), embeddings(*held))
        case "encode_posted":
            marks.encode_posted(draw(st.sampled_from(uuids)), draw(WORKERS))
        case "encode_answered":
            marks.encode_answered(draw(st.sampled_from(marks.encodes)), 70, 2240)
        case "encode_failed":
            marks.encode_failed(draw(st.sampled_from(marks.encodes)), "broken")
        case "first_token":
            marks.first_token()
        case "last_token":
            marks.last_token()
        case "answered":
            marks.decode_answered(9)
        case "returned":
            marks.decode_returned(4)
        case "failed":
            marks.decode_failed("broken", 2)


ASSEMBLED = st.builds(
    Told.timeline,
    tellings(),
    st.dictionaries(WORKERS, RECORDS),
    st.dictionaries(WORKERS, CLOCKS),
    SECONDS,
)
