"""What becomes of marks and records where a request was stolen, retried, refused or broken off."""

import pytest
from told_requests import (
    DECODER,
    ENCODER,
    OTHER_DECODER,
    OTHER_ENCODER,
    THIEF,
    U0,
    Told,
    call,
    embeddings,
    items,
    remembered,
    rows,
    stolen_and_given_back,
    transfer,
)

from chiasm.nouns import Role
from chiasm.telemetry.records import Phase


def test_a_request_that_is_stolen_paused_and_given_back() -> None:
    timeline = stolen_and_given_back()
    assert rows(timeline.spans) == [
        ("fetch", 0.0, 0.1, 0.1, ""),
        ("decode_queue", 0.1, 0.2, 0.1, ""),
        ("preprocess", 0.2, 0.3, 0.1, "stolen"),
        ("decode_queue", 0.3, 0.4, 0.1, "stolen"),
        ("prefill", 0.4, 0.5, 0.1, "stolen"),
        ("decode", 0.5, 0.6, 0.1, "stolen"),
        ("decode", 0.6, 0.9, 0.3, "stolen, paused"),
        ("decode", 0.9, 1.5, 0.6, "stolen"),
        ("decode", 1.5, 2.0, 0.5, "stolen, paused, given back"),
        ("decode_queue", 2.0, 2.3, 0.3, ""),
        ("preprocess", 2.3, 2.4, 0.1, "continued"),
        ("decode_queue", 2.4, 2.5, 0.1, "continued"),
        ("prefill", 2.5, 2.6, 0.1, "continued"),
        ("decode", 2.6, 3.0, 0.4, "continued"),
    ]
    assert timeline.output_tokens == 12
    assert [span.tokens for span in timeline.spans if span.phase is Phase.DECODE] == [8, 0, 0, 0, 4]


def test_what_stands_of_an_answer_is_no_part_of_the_prompt_that_its_client_sent() -> None:
    told = Told()
    told.at(0.1).submitted((), streams=True)
    told.at(0.2).decode_posted(THIEF, Role.TEXT, ())
    told.at(2.0).decode_returned(8)
    told.at(2.3).decode_posted(DECODER, Role.DECODER, ())
    told.at(3.0).decode_answered(4)
    told.at(3.0).ended("answered")
    thiefs = remembered(call("r", 0.2, 0.3, 0.4, 0.5, 1.9, prompt_tokens=100, cached_tokens=96))
    decoders = remembered(call("r", 2.3, 2.4, 2.5, 2.6, 3.0, prompt_tokens=108))
    assert told.timeline({THIEF: thiefs, DECODER: decoders}).prompt_tokens == 100
    assert told.timeline({DECODER: decoders}).prompt_tokens == 100
    assert told.timeline({}).prompt_tokens == 0


def test_a_lost_embedding_is_encoded_again() -> None:
    told = Told()
    told.at(0.0).submitted(items(U0), streams=True)
    first = told.at(0.1).encode_posted(U0, ENCODER)
    told.at(0.5).encode_answered(first, 70, 2240)
    told.at(0.6).decode_posted(DECODER, Role.DECODER, embeddings(U0))
    told.at(0.9).decode_failed("no such item", tokens=0)
    second = told.at(1.0).encode_posted(U0, ENCODER)
    told.at(1.4).encode_answered(second, 70, 2240)
    told.at(1.5).decode_posted(DECODER, Role.DECODER, embeddings(U0))
    told.at(1.8).first_token()
    told.at(2.0).last_token()
    told.at(2.0).decode_answered(3)
    told.at(2.0).ended("answered")
    records = {
        ENCODER: remembered(call("r.0", 0.1, 0.1, 0.2, 0.5, 0.5), call("r.0", 1.0, 1.1, 1.2, 1.4, 1.4)),
        DECODER: remembered(
            call("r", 0.6, 0.65, 0.65, 0.65, 0.65),  # never scheduled
            transfer(U0, 0.7, 0.8, failure="missing"),
            call("r", 1.5, 1.55, 1.7, 1.8, 2.0),
            transfer(U0, 1.6, 1.7),
        ),
    }
    timeline = told.timeline(records)
    assert rows(timeline.spans) == [
        ("encode_queue", 0.0, 0.1, 0.1, ""),
        ("encode_queue", 0.1, 0.2, 0.1, ""),
        ("encode", 0.2, 0.5, 0.3, ""),
        ("decode_queue", 0.5, 0.6, 0.1, ""),
        ("preprocess", 0.6, 0.65, 0.05, ""),
        ("decode_queue", 0.65, 0.7, 0.05, ""),
        ("transfer", 0.7, 0.8, 0.1, "failed: missing"),
        ("decode_queue", 0.8, 0.9, 0.1, "failed: no such item"),
        ("encode_queue", 0.9, 1.0, 0.1, ""),
        ("preprocess", 1.0, 1.1, 0.1, "retried"),
        ("encode_queue", 1.1, 1.2, 0.1, "retried"),
        ("encode", 1.2, 1.4, 0.2, "retried"),
        ("decode_queue", 1.4, 1.5, 0.1, ""),
        ("preprocess", 1.5, 1.55, 0.05, "retried"),
        ("decode_queue", 1.55, 1.6, 0.05, "retried"),
        ("transfer", 1.6, 1.7, 0.1, "retried"),
        ("prefill", 1.7, 1.8, 0.1, "retried"),
        ("decode", 1.8, 2.0, 0.2, "retried"),
    ]
    assert timeline.missing == ()


def test_what_the_scheduler_gave_up_is_over_with_the_next_post() -> None:
    told = Told()
    told.at(0.0).submitted(items(U0), streams=True)
    lost = told.at(0.1).encode_posted(U0, ENCODER)
    second = told.at(1.0).encode_posted(U0, OTHER_ENCODER)
    told.at(1.5).encode_answered(second, 70, 2240)
    told.at(1.6).decode_posted(DECODER, Role.DECODER, embeddings(U0))
    told.at(2.0).decode_posted(OTHER_DECODER, Role.DECODER, embeddings(U0))
    told.at(2.5).first_token()
    told.at(2.7).encode_failed(lost, "no connection")
    told.at(3.0).last_token()
    told.at(3.0).decode_answered(3)
    told.at(3.0).ended("answered")
    assert rows(told.timeline().spans) == [
        ("encode_queue", 0.0, 0.1, 0.1, ""),
        ("encode", 0.1, 1.0, 0.9, "given up"),
        ("encode", 1.0, 1.5, 0.5, "retried"),
        ("decode_queue", 1.5, 1.6, 0.1, ""),
        ("prefill", 1.6, 2.0, 0.4, "given up"),
        ("prefill", 2.0, 2.5, 0.5, "retried"),
        ("decode", 2.5, 3.0, 0.5, "retried"),
    ]


def test_an_encode_is_over_for_a_request_that_got_its_item_from_another() -> None:
    told = Told()
    told.at(0.0).submitted(items(U0), streams=True)
    lost = told.at(0.1).encode_posted(U0, ENCODER)
    told.at(1.0).decode_posted(DECODER, Role.DECODER, embeddings(U0))
    told.at(2.0).encode_failed(lost, "no connection")
    told.at(3.0).decode_answered(3)
    told.at(3.0).ended("answered")
    assert rows(told.timeline().spans)[1:] == [
        ("encode", 0.1, 1.0, 0.9, "given up"),
        ("prefill", 1.0, 3.0, 2.0, ""),
    ]


def test_a_decode_is_over_when_its_item_is_encoded_again() -> None:
    told = Told()
    told.at(0.0).submitted(items(U0), streams=True)
    told.at(0.0).decode_posted(DECODER, Role.DECODER, embeddings(U0))
    again = told.at(1.0).encode_posted(U0, ENCODER)
    told.at(2.0).encode_answered(again, 70, 2240)
    told.at(3.0).ended("deadline_exceeded")
    assert rows(told.timeline().spans) == [
        ("prefill", 0.0, 1.0, 1.0, "given up"),
        ("encode", 1.0, 2.0, 1.0, ""),
        ("decode_queue", 2.0, 3.0, 1.0, ""),
    ]


def test_what_is_rejected_after_a_failure_waited_for_another_attempt() -> None:
    told = Told()
    told.at(0.0).submitted(items(U0), streams=True)
    first = told.at(0.1).encode_posted(U0, ENCODER)
    told.at(0.5).encode_failed(first, "busy")
    second = told.at(0.6).encode_posted(U0, ENCODER)
    told.at(1.0).encode_answered(second, 70, 2240)
    told.at(1.0).decode_posted(DECODER, Role.DECODER, embeddings(U0))
    told.at(2.0).decode_failed("broken", tokens=0)
    told.at(9.0).ended("deadline_exceeded")
    timeline = told.timeline()
    assert rows(timeline.spans)[-1] == ("decode_queue", 2.0, 9.0, 7.0, "")
    assert timeline.missing == (
        "encoder-0 was not heard: what it did is not divided",
        "decoder-0 was not heard: what it did is not divided",
    )


def test_what_was_given_up_before_a_failure_is_not_waited_for_after_it() -> None:
    told = Told()
    told.at(0.0).submitted(items(U0), streams=True)
    told.at(0.1).encode_posted(U0, ENCODER)
    told.at(1.0).decode_posted(DECODER, Role.DECODER, embeddings(U0))
    told.at(2.0).decode_failed("broken", tokens=0)
    told.at(9.0).ended("deadline_exceeded")
    assert rows(told.timeline().spans)[-1] == ("decode_queue", 2.0, 9.0, 7.0, "")
    assert [row for row in rows(told.timeline().spans) if row[1] >= 1.0 and row[0] == "encode_queue"] == []


def test_a_request_that_is_refused_was_only_read() -> None:
    told = Told()
    told.at(0.2).ended("invalid")
    timeline = told.timeline()
    assert rows(timeline.spans) == [("fetch", 0.0, 0.2, 0.2, "")]
    assert timeline.unattributed_seconds == 0.0


@pytest.mark.parametrize(("asked", "phase"), [(items(U0), "encode_queue"), ([], "decode_queue")])
def test_a_request_that_is_rejected_waited_until_then(asked: list, phase: str) -> None:  # type: ignore[type-arg]
    told = Told()
    told.at(0.1).submitted(asked, streams=True)
    told.at(9.0).ended("deadline_exceeded")
    assert rows(told.timeline().spans)[1:] == [(phase, 0.1, 9.0, 8.9, "")]


def test_an_item_that_fails_for_good_is_not_waited_for_afterwards() -> None:
    told = Told()
    told.at(0.1).submitted(items(U0), streams=True)
    attempt = told.at(0.2).encode_posted(U0, ENCODER)
    told.at(0.5).encode_failed(attempt, "not an image")
    told.at(0.6).ended("bad_item")
    timeline = told.timeline({ENCODER: remembered()})
    assert rows(timeline.spans)[2:] == [
        ("encode", 0.2, 0.5, 0.3, "failed: not an image"),
        ("encode_queue", 0.5, 0.6, 0.1, ""),
    ]
    assert timeline.missing == ()  # the encoder may never have had it


def test_an_item_may_fail_before_its_encode_begins() -> None:
    told = Told()
    told.at(0.1).submitted(items(U0), streams=True)
    attempt = told.at(0.2).encode_posted(U0, ENCODER)
    told.at(0.5).encode_failed(attempt, "too slow")
    told.at(0.5).ended("failed")
    timeline = told.timeline({ENCODER: remembered(call("r.0", 0.2, 0.3, 0.3, 0.3, 0.3))})
    assert rows(timeline.spans)[2:] == [
        ("preprocess", 0.2, 0.3, 0.1, ""),
        ("encode_queue", 0.3, 0.5, 0.2, "failed: too slow"),
    ]


def test_a_client_that_leaves_breaks_off_what_was_under_way() -> None:
    told = Told()
    told.at(0.1).submitted((), streams=True)
    told.at(0.2).decode_posted(DECODER, Role.DECODER, ())
    told.at(0.5).first_token()
    told.at(0.8).ended("client_left")
    timeline = told.timeline({DECODER: remembered(call("r", 0.2, 0.3, 0.4, 0.5, 0.8))})
    assert rows(timeline.spans)[-1] == ("decode", 0.5, 0.8, 0.3, "broken off")


def test_a_client_may_leave_with_the_last_token() -> None:
    told = Told()
    told.at(0.1).submitted((), streams=True)
    told.at(0.2).decode_posted(DECODER, Role.DECODER, ())
    told.at(0.5).first_token()
    told.at(0.8).last_token()
    told.at(0.9).ended("client_left")
    timeline = told.timeline({DECODER: remembered(call("r", 0.2, 0.3, 0.4, 0.5, 0.8))})
    assert rows(timeline.spans)[-1] == ("decode", 0.5, 0.8, 0.3, "")
