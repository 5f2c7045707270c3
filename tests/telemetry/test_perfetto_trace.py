"""What is written into a trace, read as plain JSON."""

import json
from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from told_profiles import BEGAN, busy_profile, profile, step, stolen_request, unheard, with_steps, worker, written
from told_requests import (
    DECODER,
    ENCODER,
    THIEF,
    U0,
    T,
    call,
    image_records,
    image_request,
    pause,
    remembered,
    transfer,
)

from chiasm.nouns import Role
from chiasm.telemetry.perfetto.events import Slice, TraceEvents
from chiasm.telemetry.perfetto.trace import Profile
from chiasm.telemetry.records import Phase

Event = dict[str, Any]


def events(profile: Profile) -> list[Event]:
    found: list[Event] = json.loads(written(profile))["traceEvents"]
    return found


def slices(profile: Profile) -> list[tuple[str, str, str, float, float]]:
    """Process, track, name, beginning and end (in seconds since `T`) of each."""
    found = events(profile)
    processes = {each["pid"]: each["args"]["name"] for each in found if each["name"] == "process_name"}
    tracks = {each["tid"]: each["args"]["name"] for each in found if each["name"] == "thread_name"}
    return [
        (processes[each["pid"]], tracks[each["tid"]], each["name"], after(each["ts"]), after(each["ts"] + each["dur"]))
        for each in found
        if each["ph"] == "X"
    ]


def after(micros: int) -> float:
    return round(micros / 1e6 + BEGAN - T, 6)


def test_the_metadata_say_when_it_was_and_who_was_there() -> None:
    metadata = json.loads(written(busy_profile()))["metadata"]
    assert metadata["began"] == BEGAN
    clock = {"seconds": 3.0, "uncertainty": 0.001}
    assert metadata["workers"]["decoder-0"] == {"role": "decoder", "node": "node-a", "clock_ahead": clock}


def test_workers_that_nobody_heard_have_their_place() -> None:
    names = [
        each["args"]["name"] for each in events(profile(unheard("decoder-0", Role.DECODER))) if "name" in each["args"]
    ]
    assert names == ["gateway", "scheduler", "decoder-0"]


def test_what_an_engine_did_for_unknown_requests_shows_as_well() -> None:
    engine = remembered(call("x", 1.0, 1.1, 1.4, 1.6, 2.0), transfer(U0, 1.2, 1.3))
    assert slices(profile(worker(DECODER, Role.DECODER, engine))) == [
        ("decoder-0", "preprocess", "preprocess", 1.0, 1.1),
        ("decoder-0", "decode_queue", "decode_queue", 1.1, 1.4),
        ("decoder-0", "transfer", "transfer", 1.2, 1.3),
        ("decoder-0", "prefill", "prefill", 1.4, 1.6),
        ("decoder-0", "decode", "decode", 1.6, 2.0),
    ]
    encoder = remembered(call("x.0", 1.0, 1.1, 1.4, 1.6, 1.6))
    assert [row[1] for row in slices(profile(worker(ENCODER, Role.ENCODER, encoder)))] == [
        "encode_queue",
        "preprocess",
        "encode",
    ]


def test_nothing_shows_twice() -> None:
    records = image_records()
    workers = (worker(ENCODER, Role.ENCODER, records[ENCODER]), worker(DECODER, Role.DECODER, records[DECODER]))
    told = slices(profile(*workers, timelines=(image_request().timeline(records),)))
    for phase in (Phase.ENCODE, Phase.TRANSFER, Phase.PREFILL, Phase.DECODE):
        assert len([row for row in told if row[2] == phase]) == 1


def test_slices_that_overlap_lie_in_lanes_of_their_own() -> None:
    calls = [call(f"x{n}", 0.0, 0.0, 0.0, 1.0 + n, 1.0 + n) for n in (2, 0, 1)]
    later = call("y", 1.0, 1.0, 1.0, 2.0, 2.0)
    assert slices(profile(worker(DECODER, Role.DECODER, remembered(*calls, later)))) == [
        ("decoder-0", "prefill", "prefill", 0.0, 1.0),
        ("decoder-0", "prefill (2)", "prefill", 0.0, 2.0),
        ("decoder-0", "prefill (3)", "prefill", 0.0, 3.0),
        ("decoder-0", "prefill", "prefill", 1.0, 2.0),
    ]


def test_what_began_before_is_cut_and_what_was_over_is_left_out() -> None:
    before = BEGAN - T
    steps = (step(before - 0.5, 0.1, streams=1), step(before + 1.0, 3.0, streams=1))
    found = profile(worker(DECODER, Role.DECODER, with_steps(remembered(), *steps)))
    assert slices(found) == [("decoder-0", "steps", "decode", before, before + 1.0)]
    [cut] = [each for each in events(found) if each["ph"] == "X"]
    assert cut["args"]["seconds_before_the_trace"] == 2.0
    assert [each["ts"] for each in events(found) if each["ph"] == "C"] == [1_000_000]


def test_a_pause_that_lasts_ends_with_the_trace() -> None:
    standing = remembered(pause(3.0, 0.0))
    assert slices(profile(worker(THIEF, Role.TEXT, standing))) == [("encoder-0-text", "pauses", "paused", 3.0, 15.0)]


def test_an_engine_that_is_no_more_keeps_what_requests_saw_of_it() -> None:
    told = slices(profile(timelines=(stolen_request().timeline(),)))
    assert {row[0] for row in told} == {"gateway", "encoder-0-text", "decoder-0"}


def test_a_worker_stands_after_those_with_smaller_numbers() -> None:
    names = ["encoder-10", "whole-0", "encoder-2", "encoder-2-text", "decoder-1", "encoder-10-text"]
    roles = [Role.ENCODER, Role.WHOLE, Role.ENCODER, Role.TEXT, Role.DECODER, Role.TEXT]
    found = json.loads(written(profile(*map(unheard, names, roles))))["metadata"]["workers"]
    assert list(found) == ["encoder-2", "encoder-2-text", "encoder-10", "encoder-10-text", "decoder-1", "whole-0"]


SPANS = st.lists(st.tuples(st.integers(-50, 100), st.integers(0, 60)), max_size=30)


@settings(deadline=None)
@given(SPANS)
def test_tracks_never_hold_two_things_at_once(spans: list[tuple[int, int]]) -> None:
    written: list[str] = []

    class Sink:
        def write(self, text: str) -> None:
            written.append(text)

    trace = TraceEvents(Sink(), 0.0, {})
    given = [Slice("x", began / 10, (began + length) / 10) for began, length in spans if began + length > 0]
    places = trace.process("p").slices("x", given)
    trace.end()
    assert len(json.loads("".join(written))["traceEvents"]) >= len(given)
    for place, each in zip(places, given, strict=True):
        assert place.began == max(0, round(each.began * 1e6))
        assert place.ended == max(place.began + 1, round(each.ended * 1e6))
    for one, other in combinations(places, 2):
        assert one.track != other.track or other.ended <= one.began or one.ended <= other.began
    beside = [sum(other.began <= one.began < other.ended for other in places) for one in places]
    assert len({place.track for place in places}) == max(beside, default=0)  # and no more of them than it takes
