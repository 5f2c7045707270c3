"""Traces, opened in Perfetto's own trace processor, and asked."""

import gzip
from collections.abc import Iterator

import pytest
from told_profiles import STOLEN, busy_profile, written
from told_requests import REQUEST
from trace_processor import TraceProcessor, opened

pytestmark = pytest.mark.slow

# Seconds are since the requests arrived, which is five seconds after the beginning of the trace.
SLICES = """
    select process.name as process, thread.name as track, slice.name, round(ts / 1e9 - 5, 3) as began,
        round(dur / 1e9, 3) as lasted, slice.id, extract_arg(slice.arg_set_id, 'args.request') as request,
        extract_arg(slice.arg_set_id, 'args.note') as note, slice.arg_set_id
    from slice join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid)
"""


@pytest.fixture(scope="module")
def trace() -> Iterator[TraceProcessor]:
    with opened(written(busy_profile()).encode()) as processor:
        yield processor


def test_perfetto_opens_it_and_has_nothing_to_complain_of(trace: TraceProcessor) -> None:
    assert trace.version().startswith("Perfetto v")
    assert trace.complaints() == {}


def test_perfetto_opens_a_compressed_one() -> None:
    with opened(gzip.compress(written(busy_profile()).encode())) as trace:
        assert trace.complaints() == {}
        assert trace.query("select count(*) as count from slice where name = 'prefill'") == [{"count": 4}]


def test_everyone_is_a_process_and_they_are_in_order(trace: TraceProcessor) -> None:
    names = [row["name"] for row in trace.query("select name from process where name is not null order by pid")]
    workers = ["encoder-0", "encoder-0-text", "encoder-10", "decoder-0", "whole-0"]
    assert names == ["gateway", "scheduler", *workers]


def test_the_phases_of_a_request_are_with_the_workers_that_it_was_at(trace: TraceProcessor) -> None:
    rows = trace.query(f"select * from ({SLICES}) where request = '{REQUEST}' order by began, lasted desc")
    assert [(row["process"], row["track"].split(" (")[0], row["began"], row["lasted"]) for row in rows] == [
        ("gateway", "requests", 0.0, 4.6),
        ("gateway", "fetch", 0.0, 0.1),
        ("encoder-0", "encode_queue", 0.1, 0.2),
        ("encoder-0", "preprocess", 0.3, 0.1),
        ("encoder-0", "encode_queue", 0.4, 0.1),
        ("encoder-0", "encode", 0.5, 0.5),
        ("decoder-0", "decode_queue", 1.0, 0.2),
        ("decoder-0", "preprocess", 1.2, 0.1),
        ("decoder-0", "decode_queue", 1.3, 0.1),
        ("decoder-0", "transfer", 1.4, 0.3),
        ("decoder-0", "decode_queue", 1.7, 0.1),
        ("decoder-0", "prefill", 1.8, 0.8),
        ("decoder-0", "decode", 2.6, 1.9),
    ]


def test_arrows_lead_along_the_way_of_a_request(trace: TraceProcessor) -> None:
    way = trace.query(f"""
        with slices as ({SLICES})
        select here.process as here, here.name as this, there.process as there, there.name as next
        from flow join slices as here on slice_out = here.id join slices as there on slice_in = there.id
        where here.process != there.process or here.name = 'transfer' order by there.began, here.began
    """)
    assert [tuple(row.values()) for row in way] == [
        ("gateway", "fetch", "encoder-0", "encode_queue"),
        ("gateway", "fetch", "encoder-0-text", "decode_queue"),
        ("encoder-0", "encode", "decoder-0", "decode_queue"),
        ("encoder-0", "encode", "decoder-0", "transfer"),
        ("decoder-0", "transfer", "decoder-0", "prefill"),
        ("encoder-0-text", "decode", "decoder-0", "decode_queue"),  # given back
    ]


def test_no_arrow_joins_two_requests(trace: TraceProcessor) -> None:
    joined = trace.query(f"""
        with slices as ({SLICES})
        select count(*) as arrows, sum(here.request != there.request) as astray
        from flow join slices as here on slice_out = here.id join slices as there on slice_in = there.id
    """)
    assert joined == [{"arrows": 21, "astray": 0}]


def test_thefts_and_returns_are_with_the_thief(trace: TraceProcessor) -> None:
    rows = trace.query(f"select * from ({SLICES}) where track = 'steals and returns' order by began")
    found = [(row["process"], row["name"], row["began"], row["request"]) for row in rows]
    assert found == [("encoder-0-text", "steal", 0.3, STOLEN), ("encoder-0-text", "return", 2.0, STOLEN)]


def test_steps_say_what_was_in_them(trace: TraceProcessor) -> None:
    rows = trace.query(f"""
        select process, name, count(*) as count, sum(extract_arg(arg_set_id, 'args.prompt_tokens')) as prompt,
            sum(extract_arg(arg_set_id, 'args.stream_tokens')) as streams, min(began) as began
        from ({SLICES}) where track = 'steps' group by process, name order by began
    """)
    assert [tuple(row.values()) for row in rows] == [
        ("encoder-0", "encode", 1, None, None, 0.5),
        ("decoder-0", "prefill", 1, 84, None, 1.8),
        ("decoder-0", "decode", 15, None, 15, 2.6),
    ]


def test_queues_are_counters(trace: TraceProcessor) -> None:
    rows = trace.query("""
        select process.name as process, process_counter_track.name, max(value) as most, count(*) as count
        from counter join process_counter_track on track_id = process_counter_track.id join process using (upid)
        group by 1, 2 order by 1, 2
    """)
    assert [tuple(row.values()) for row in rows] == [
        ("decoder-0", "KV cache percent", 25.0, 16),
        ("decoder-0", "requests running", 1.0, 16),
        ("decoder-0", "requests waiting", 0.0, 16),
        ("encoder-0", "requests running", 1.0, 1),
        ("encoder-0", "requests waiting", 0.0, 1),
        ("scheduler", "requests decoding", 3.0, 2),
        ("scheduler", "requests encoding", 1.0, 2),
        ("scheduler", "requests withheld", 2.0, 2),
        ("scheduler", "withheld for decoder-0", 2.0, 2),
    ]


def test_pauses_show(trace: TraceProcessor) -> None:
    rows = trace.query(f"select * from ({SLICES}) where track = 'pauses'")
    assert [(row["process"], row["name"], row["began"], row["lasted"]) for row in rows] == [
        ("encoder-0-text", "paused", 1.5, 0.4)
    ]
