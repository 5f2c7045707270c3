"""What becomes of marks and records: the phases of requests that are answered at the first attempt."""

import msgspec
import pytest
from told_requests import (
    DECODER,
    ENCODER,
    OTHER_ENCODER,
    U0,
    U1,
    WHOLE,
    T,
    Told,
    call,
    embeddings,
    image_records,
    image_request,
    items,
    remembered,
    rows,
    stolen_and_given_back,
    transfer,
)

from chiasm.nouns import Role
from chiasm.telemetry.records import Phase
from chiasm.telemetry.timelines.clock_offsets import ClockOffset
from chiasm.telemetry.timelines.timeline import Timeline

DIVIDED = [
    ("fetch", 0.0, 0.1, 0.1, ""),
    ("encode_queue", 0.1, 0.3, 0.2, ""),
    ("preprocess", 0.3, 0.4, 0.1, ""),
    ("encode_queue", 0.4, 0.5, 0.1, ""),
    ("encode", 0.5, 1.0, 0.5, ""),
    ("decode_queue", 1.0, 1.2, 0.2, ""),
    ("preprocess", 1.2, 1.3, 0.1, ""),
    ("decode_queue", 1.3, 1.4, 0.1, ""),
    ("transfer", 1.4, 1.7, 0.3, ""),
    ("decode_queue", 1.7, 1.8, 0.1, ""),
    ("prefill", 1.8, 2.6, 0.8, ""),
    ("decode", 2.6, 4.5, 1.9, ""),
]
"""Of `image_request`, with all that its engines remember."""


def test_an_image_goes_through_all_eight_phases() -> None:
    timeline = image_request().timeline(image_records())
    assert rows(timeline.spans) == DIVIDED
    assert {span.phase for span in timeline.spans} == set(Phase)
    assert timeline.unattributed_seconds == pytest.approx(0.1)  # until its client had it all
    assert (timeline.outcome, timeline.output_tokens, timeline.missing) == ("answered", 20, ())


def test_spans_say_where_and_how_much() -> None:
    spans = {span.phase: span for span in image_request().timeline(image_records()).spans}
    encode, landed, prefill, decode = (
        spans[phase] for phase in (Phase.ENCODE, Phase.TRANSFER, Phase.PREFILL, Phase.DECODE)
    )
    assert (encode.worker, encode.item, encode.attempt, encode.tokens, encode.nbytes) == (ENCODER, 0, 1, 70, 2240)
    assert (landed.worker, landed.item, landed.attempt, landed.nbytes) == (DECODER, 0, 1, 2240)
    assert (prefill.worker, prefill.item, prefill.attempt, prefill.tokens) == (DECODER, None, 1, 84)
    assert decode.tokens == 20


def test_clocks_that_are_hours_apart_change_nothing() -> None:
    records = image_records(encoder_ahead=7200.0, decoder_ahead=-86400.0)
    clocks = {ENCODER: ClockOffset(7200.0, 0.002), DECODER: ClockOffset(-86400.0, 0.003)}
    timeline = image_request().timeline(records, clocks)
    assert rows(timeline.spans) == DIVIDED
    assert timeline.clock_uncertainty_seconds == {ENCODER: 0.002, DECODER: 0.003}


def test_times_of_engines_stay_within_what_the_gateway_saw() -> None:
    clocks = {ENCODER: ClockOffset(0.0, 0.5), DECODER: ClockOffset(0.0, 0.5)}
    timeline = image_request().timeline(image_records(encoder_ahead=0.45, decoder_ahead=-0.45), clocks)
    assert rows(timeline.spans)[2:4] == [("preprocess", 0.3, 0.85, 0.55, ""), ("encode_queue", 0.85, 0.95, 0.1, "")]
    # Its beginning lies before the post: what is left of it counts.
    assert [row for row in rows(timeline.spans) if row[0] == "transfer"] == [("transfer", 1.2, 1.25, 0.05, "")]


def test_without_records_the_gateways_own_marks_must_do() -> None:
    timeline = image_request().timeline()
    assert rows(timeline.spans) == [
        ("fetch", 0.0, 0.1, 0.1, ""),
        ("encode_queue", 0.1, 0.3, 0.2, ""),
        ("encode", 0.3, 1.0, 0.7, ""),
        ("decode_queue", 1.0, 1.2, 0.2, ""),
        ("prefill", 1.2, 2.6, 1.4, ""),
        ("decode", 2.6, 4.5, 1.9, ""),
    ]
    assert timeline.missing == (
        "encoder-0 was not heard: what it did is not divided",
        "decoder-0 was not heard: what it did is not divided",
    )


def test_an_engine_that_has_forgotten_is_named() -> None:
    records = {ENCODER: remembered(call("r.1", 0.3, 0.4, 0.5, 0.9, 0.9)), DECODER: remembered(call("r", 9, 9, 9, 9, 9))}
    assert image_request().timeline(records).missing == (
        "encoder-0 no longer remembers the encode of item 0, so that it is not divided",
        "decoder-0 no longer remembers the call, so that it is not divided",
    )


def test_transfers_divide_a_call_that_is_forgotten() -> None:
    records = image_records() | {
        DECODER: remembered(*(transfer(U0, at, at + 0.3) for at in (0.5, 1.4, 5.0)), transfer(U1, 1.3, 1.9))
    }
    assert rows(image_request().timeline(records).spans)[6:9] == [
        ("preprocess", 1.2, 1.4, 0.2, ""),
        ("transfer", 1.4, 1.7, 0.3, ""),
        ("prefill", 1.7, 2.6, 0.9, ""),
    ]


def test_of_two_calls_of_one_name_the_one_of_that_time_is_meant() -> None:
    before, after = call("r.0", -9.0, -8.9, -8.8, -8.0, -8.0), call("r.0", 1.0, 1.01, 1.02, 1.03, 1.03)
    own = call("r.0", 0.31, 0.4, 0.5, 0.9, 0.9)
    for calls in ((before, own, after), (after, own, before)):
        assert rows(image_request().timeline(image_records() | {ENCODER: remembered(*calls)}).spans) == DIVIDED


def test_a_call_may_be_as_far_off_as_its_clock() -> None:
    records = image_records() | {ENCODER: remembered(call("r.0", -0.69, -0.6, -0.5, -0.1, -0.1))}
    assert image_request().timeline(records, {ENCODER: ClockOffset(0.0, 0.5)}).missing == ()
    assert image_request().timeline(records, {ENCODER: ClockOffset(0.0, 0.3)}).missing == (
        "encoder-0 no longer remembers the encode of item 0, so that it is not divided",
    )


def test_a_transfer_is_over_with_the_first_token() -> None:
    records = image_records() | {DECODER: remembered(call("r", 1.21, 1.3, 1.8, 2.5, 4.4), transfer(U0, 1.4, 2.7))}
    assert ("transfer", 1.4, 2.6, 0.4, "") in rows(image_request().timeline(records).spans)


def test_preemptions_are_noted() -> None:
    records = image_records() | {DECODER: remembered(call("r", 1.21, 1.3, 1.8, 2.5, 4.4, preemptions=2))}
    assert rows(image_request().timeline(records).spans)[-1][-1] == "preempted 2 times"


def two_images(b_answered: float) -> Told:
    told = Told()
    told.at(0.1).submitted(items(U0, U1, U0), streams=True)
    first = told.at(0.2).encode_posted(U0, ENCODER)
    second = told.at(0.4).encode_posted(U1, OTHER_ENCODER)
    told.at(1.0).encode_answered(first, 70, 2240)
    told.at(b_answered).encode_answered(second, 70, 2240)
    told.at(2.5).decode_posted(DECODER, Role.DECODER, embeddings(U0, U1))
    told.at(3.0).first_token()
    told.at(4.0).last_token()
    told.at(4.0).decode_answered(5)
    told.at(4.0).ended("answered")
    return told


def test_of_two_items_the_one_that_was_waited_for_counts() -> None:
    timeline = two_images(b_answered=2.0).timeline()
    own = {(span.phase, span.item): round(span.self_seconds, 3) for span in timeline.spans}
    assert own[Phase.ENCODE, 0] == own[Phase.ENCODE_QUEUE, 0] == 0
    assert own[Phase.ENCODE_QUEUE, 1] == 0.3
    assert own[Phase.ENCODE, 1] == 1.6
    assert own[Phase.DECODE_QUEUE, None] == 0.5


def test_two_transfers_share_the_time_until_the_last_has_landed() -> None:
    records = {
        DECODER: remembered(
            call("r", 2.5, 2.5, 2.9, 3.0, 4.0), transfer(U0, 2.5, 2.75), transfer(U1, 2.6, 2.8), transfer(U1, 4.1, 4.2)
        )
    }
    transfers = [span for span in two_images(2.0).timeline(records).spans if span.phase is Phase.TRANSFER]
    assert rows(tuple(transfers)) == [("transfer", 2.5, 2.75, 0.1, ""), ("transfer", 2.6, 2.8, 0.2, "")]
    assert [span.item for span in transfers] == [0, 1]


def test_an_answer_in_one_piece_has_its_engines_first_token() -> None:
    told = Told()
    told.at(0.1).submitted((), streams=False)
    told.at(0.2).decode_posted(DECODER, Role.DECODER, ())
    told.at(3.0).decode_answered(20)
    told.at(3.0).ended("answered")
    records = {DECODER: remembered(call("r", 0.2, 0.3, 0.4, 1.0, 2.9))}
    assert rows(told.timeline(records).spans)[-2:] == [("prefill", 0.4, 1.0, 0.6, ""), ("decode", 1.0, 3.0, 2.0, "")]
    assert rows(told.timeline().spans)[-1:] == [("decode", 0.2, 3.0, 2.8, "with its prefill")]


def test_a_whole_worker_encodes_in_its_prefill() -> None:
    told = Told()
    told.at(0.1).submitted(items(U0), streams=True)
    told.at(0.2).decode_posted(WHOLE, Role.WHOLE, ())
    told.at(1.0).first_token()
    told.at(2.0).last_token()
    told.at(2.0).decode_answered(3)
    told.at(2.0).ended("answered")
    timeline = told.timeline({WHOLE: remembered(call("r", 0.2, 0.3, 0.4, 1.0, 2.0))})
    assert rows(timeline.spans)[1:] == [
        ("decode_queue", 0.1, 0.2, 0.1, ""),
        ("preprocess", 0.2, 0.3, 0.1, "unsplit"),
        ("decode_queue", 0.3, 0.4, 0.1, "unsplit"),
        ("prefill", 0.4, 1.0, 0.6, "unsplit"),
        ("decode", 1.0, 2.0, 1.0, "unsplit"),
    ]
    assert timeline.missing == ()


def test_a_text_at_a_whole_worker_has_nothing_to_split() -> None:
    told = Told()
    told.at(0.1).submitted((), streams=True)
    told.at(0.2).decode_posted(WHOLE, Role.WHOLE, ())
    told.at(2.0).decode_answered(3)
    told.at(2.0).ended("answered")
    assert {span.note for span in told.timeline().spans} == {""}


def test_an_item_that_others_had_encoded_is_only_waited_for() -> None:
    told = Told()
    told.at(0.1).submitted(items(U0, U1), streams=True)
    attempt = told.at(0.2).encode_posted(U0, ENCODER)
    told.at(0.5).encode_answered(attempt, 70, 2240)
    told.at(0.9).decode_posted(DECODER, Role.DECODER, embeddings(U0, U1))
    told.at(1.0).first_token()
    told.at(1.5).last_token()
    told.at(1.5).decode_answered(3)
    told.at(1.5).ended("answered")
    timeline = told.timeline()
    assert ("decode_queue", 0.5, 0.9, 0.4, "") in rows(timeline.spans)
    assert any("item 1 was not encoded for this request" in said for said in timeline.missing)


def test_what_is_scheduled_at_once_did_not_wait() -> None:
    records = {
        ENCODER: remembered(call("r.0", 0.3, 0.4, 0.4, 0.9, 0.9)),
        DECODER: remembered(call("r", 1.2, 1.3, 1.3, 2.5, 4.4)),
    }
    timeline = image_request().timeline(records)
    assert [row for row in rows(timeline.spans) if row[0] in ("encode", "prefill")] == [
        ("encode", 0.4, 1.0, 0.6, ""),
        ("prefill", 1.3, 2.6, 1.3, ""),
    ]


def test_a_request_under_way_is_shown_as_far_as_it_has_come() -> None:
    told = Told()
    told.at(0.1).submitted(items(U0, U1), streams=True)
    told.at(0.2).encode_posted(U0, ENCODER)
    timeline = told.timeline({ENCODER: remembered()}, now=5.0)
    assert rows(timeline.spans)[1:] == [
        ("encode_queue", 0.1, 0.2, 0.1, ""),
        ("encode_queue", 0.1, 5.0, 0.0, "under way"),
        ("encode", 0.2, 5.0, 4.8, "under way"),
    ]
    assert (timeline.outcome, timeline.ended) == ("", T + 5.0)
    assert timeline.missing == ("encoder-0 tells of a call once it has ended",)


def test_the_json_form_comes_back_as_the_same_timeline() -> None:
    for timeline in (image_request().timeline(image_records()), stolen_and_given_back()):
        said = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(timeline)))
        assert list(said["self_seconds"]) == [phase.value for phase in Phase]
        assert msgspec.convert(said, Timeline) == timeline
