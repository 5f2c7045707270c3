"""What a whole cluster remembers: the timelines of many requests at once are those of each by itself."""

import msgspec
from arbitrary_timelines import CLOCKS, RECORDS, WORKERS, tellings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from told_requests import DECODER, T, Told, image_records, image_request, rows

from chiasm.nouns import RequestId, Role, WorkerId
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.records import EngineRecords
from chiasm.telemetry.timelines.clock_offsets import ClockOffset
from chiasm.telemetry.timelines.collected import ClusterRecords, WorkerRecords, assemble_all, to_json
from chiasm.telemetry.timelines.timeline import assemble

NOW = T + 1000.0


def heard(
    records: dict[WorkerId, EngineRecords], clocks: dict[WorkerId, ClockOffset] | None = None
) -> list[WorkerRecords]:
    return [WorkerRecords(name, Role.DECODER, "n", of, (clocks or {}).get(name)) for name, of in records.items()]


def test_each_request_gets_the_records_that_are_its_own() -> None:
    told, silent = image_request(), WorkerRecords(WorkerId("decoder-9"), Role.DECODER, "n", failure="HTTP 404")
    other = Marks(RequestId("another"), lambda: T)
    other.submitted((), streams=True)
    other.decode_posted(DECODER, Role.DECODER, ())
    other.decode_answered(3)
    own, none = assemble_all([told.at(5.0), other], [*heard(image_records()), silent], NOW)
    assert rows(own.spans) == rows(told.timeline(image_records()).spans)
    assert own.missing == ()
    assert none.missing == (f"{DECODER} no longer remembers the call, so that it is not divided",)


def test_a_whole_cluster_is_told_as_one_object() -> None:
    told = image_request().at(5.0)
    workers = heard(image_records())
    found = ClusterRecords(NOW, tuple(workers), tuple(assemble_all([told], workers, NOW)), 3.0)
    assert msgspec.json.decode(to_json(found), type=ClusterRecords) == found
    assert to_json(found) == msgspec.json.encode(found)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tellings(), st.dictionaries(WORKERS, RECORDS), st.dictionaries(WORKERS, CLOCKS))
def test_to_be_told_with_others_changes_nothing(
    told: Told, records: dict[WorkerId, EngineRecords], clocks: dict[WorkerId, ClockOffset]
) -> None:
    marks = told.at(0.0)
    passed = {attempt.worker for attempt in (*marks.encodes, *marks.decodes)} & records.keys()
    by_itself = assemble(
        marks,
        NOW,
        {worker: records[worker] for worker in passed},
        {worker: clocks[worker] for worker in passed & clocks.keys()},
    )
    assert assemble_all([marks], heard(records, clocks), NOW) == [by_itself]
