"""What a slot's answers tell: stalls, and why a slot does not count."""

import pytest
from made_slots import (
    BASE,
    BYSTANDER,
    DRIVE,
    ENCODED,
    GAP_S,
    PICTURE,
    SLOT_S,
    TEXT,
    answer,
    carrier,
    replace_fields,
    slots_with,
    stream,
)

from bench.itl.plan import Drive
from bench.itl.slots import Seen, Unmeasurable, read
from bench.load.answers import Answer

TWO = Drive("two", 1, (BASE, PICTURE), 4, SLOT_S)
THREE = Drive("three", 1, (BASE, PICTURE, TEXT), 4, SLOT_S)


def two(*second: Answer, bystander: Answer | None = None) -> list[Seen]:
    """Of a drive with a slot for nothing, and one for a picture."""
    streams = bystander or stream(2 * SLOT_S)
    return read([streams, carrier(BASE, 0.0), *second], TWO, "split", 1)


def test_a_stall_is_what_a_stream_stood_still() -> None:
    nothing, picture, text, _ = slots_with({PICTURE: 1.0, TEXT: 0.4})
    assert nothing.base_s == pytest.approx(GAP_S)
    stalls = [one.stall_s for one in (nothing, picture, text)]
    assert stalls == pytest.approx([0.0, 1.0, 0.4], abs=GAP_S)
    assert picture.mean_s == pytest.approx(GAP_S / (1 - 1.0 / SLOT_S), rel=0.03)
    assert picture.running == pytest.approx(1.0, rel=0.05)
    assert all(one.fault is None for one in (nothing, picture, text))


def test_tokens_are_what_the_load_added() -> None:
    assert [one.tokens for one in slots_with({})] == [0, 500, 500, 500]
    burst = read([stream(8.0), carrier(BASE, 0.0), *[carrier(PICTURE, SLOT_S, tokens=258)] * 2], TWO, "split", 1)[1]
    assert (burst.tokens, burst.brought) == (258, 258)  # the slot is of one carrier, whatever has come


def test_times_of_bystanders_belong_to_the_slot_in_which_they_were_sent() -> None:
    late = answer(BYSTANDER, SLOT_S + 0.5, (SLOT_S + 0.7, SLOT_S + 0.8))
    found = read([stream(8.0), late, carrier(BASE, 0.0), carrier(PICTURE, SLOT_S, tokens=9)], TWO, "split", 1)
    assert [len(one.bystanders) for one in found] == [1, 1]
    assert found[1].bystanders[0].ttft_s == pytest.approx(0.2)


@pytest.mark.parametrize("first_s", [SLOT_S + 0.1, SLOT_S - 0.1])  # of four tokens: the last comes after the slot
def test_a_carrier_that_is_not_answered_by_the_next_overloads_its_slot_and_disturbs_that(first_s: float) -> None:
    answers = [carrier(BASE, 0.0), carrier(PICTURE, SLOT_S, first_s=first_s), carrier(TEXT, 2 * SLOT_S)]
    found = read([stream(3 * SLOT_S), *answers], THREE, "split", 1)
    assert found[0].fault is None
    assert found[1].fault == "overloaded: not answered within 4 s"
    assert found[2].fault == "the slot before it ran over"
    assert [one.failure for one in found] == [None] * 3
    assert found[1].computed_s == pytest.approx(first_s)


def test_a_refused_carrier_is_a_fault_of_its_own_slot_alone() -> None:
    refused = answer(PICTURE.name, SLOT_S, (), prompt_tokens=None, error="answered 400: too long")
    found = read([stream(3 * SLOT_S), carrier(BASE, 0.0), refused, carrier(TEXT, 2 * SLOT_S)], THREE, "split", 1)
    assert [one.fault for one in found] == [None, "a carrier failed: answered 400: too long", None]
    assert found[1].tokens == 0


def test_a_bystander_that_failed_spoils_the_slots_that_it_was_in() -> None:
    failed = answer(BYSTANDER, SLOT_S + 1, (SLOT_S + 1.1, SLOT_S + 1.2), error="broke off")
    found = read([stream(8.0), failed, carrier(BASE, 0.0), carrier(PICTURE, SLOT_S)], TWO, "split", 1)
    assert [one.fault for one in found] == [None, "a bystander failed: broke off"]


@pytest.mark.parametrize(
    ("slot", "phases", "fault"),
    [
        (ENCODED, {"fetch": 1.0}, None),
        (ENCODED, {"fetch": 1.0, "encode": 200.0}, "the embeddings were not there any more"),
        (PICTURE, {"fetch": 1.0, "encode": 200.0}, None),
        (PICTURE, {"fetch": 1.0}, "pictures were not encoded, though they were new"),
        (PICTURE, {}, None),  # an endpoint that does not tell
        (TEXT, {"fetch": 1.0}, None),
    ],
)
def test_what_is_told_of_encodes_must_be_what_was_to_be_measured(slot, phases, fault) -> None:
    answers = [carrier(BASE, 0.0), carrier(slot, SLOT_S, phases_ms=phases)]
    *_, one = read([stream(8.0), *answers], DRIVE, "split", 1)
    assert (one.fault or "").startswith(fault) if fault else one.fault is None


def test_without_tokens_of_bystanders_nothing_is_told() -> None:
    found = two(carrier(PICTURE, SLOT_S), bystander=stream(SLOT_S))
    assert found[1].fault == "bystanders had no tokens"


def test_usual_gaps_are_those_directly_before_and_after() -> None:
    """A machine that becomes slower while a carrier is there, evenly, adds nothing to what that does."""
    moments, at = [], 0.0
    while at < 2 * SLOT_S:
        moments.append(at)
        into = min(max((at - SLOT_S) / 1.5, 0.0), 1.0)  # the carrier is computed for so long
        at += GAP_S * (1 + into)
    slower = answer(BYSTANDER, 0.0, tuple(moments))
    found = read([slower, carrier(BASE, 0.0), carrier(PICTURE, SLOT_S, first_s=1.5)], TWO, "split", 1)
    assert [one.usual_s for one in found] == pytest.approx([GAP_S, 2 * GAP_S], rel=0.03)
    assert [one.base_s for one in found] == pytest.approx([GAP_S, 1.5 * GAP_S], rel=0.03)
    assert [one.stall_s for one in found] == pytest.approx([0.0, 0.0], abs=2 * GAP_S)


def test_what_was_usual_in_a_troubled_slot_does_not_count() -> None:
    drive = Drive("four", 1, (BASE, PICTURE, TEXT, ENCODED), 4, SLOT_S)
    late = carrier(PICTURE, SLOT_S, first_s=SLOT_S + 0.1)
    answers = [carrier(BASE, 0.0), late, carrier(TEXT, 2 * SLOT_S), carrier(ENCODED, 3 * SLOT_S)]
    found = read([stream(4 * SLOT_S), *answers], drive, "split", 1)
    assert [one.usual_before_s for one in found] == [None, pytest.approx(GAP_S), None, None]
    assert found[2].usual_s == pytest.approx(GAP_S)  # it has them, but what ran over was in it


def test_a_carrier_after_which_too_few_gaps_are_left_tells_no_stall() -> None:
    _, picture = two(carrier(PICTURE, SLOT_S, first_s=SLOT_S - 0.5))
    assert (picture.base_s, picture.stall_s) == (None, None)
    assert picture.fault is None  # what its carriers waited for is told


def test_usual_gaps_are_told_by_one_stream_long_enough_and_not_by_many() -> None:
    """Streams of one engine go in step, so that eight of them tell of the same few steps."""
    begins = 2 * SLOT_S - 0.5
    late = (carrier(BASE, 0.0), carrier(PICTURE, SLOT_S, first_s=SLOT_S - 0.5))
    others = [replace_fields(stream(2 * SLOT_S), {"kind": f"bystander {number}"}) for number in range(2, 9)]
    picture = read([stream(2 * SLOT_S), *others, *late], TWO, "split", 1)[1]
    assert len([gap for gap in picture.gaps if gap.began_s > begins - SLOT_S]) > 20
    assert picture.base_s is None


def test_what_carriers_cost_once_they_generate_is_no_stall() -> None:
    carriers = (carrier(BASE, 0.0), carrier(PICTURE, SLOT_S, first_s=1.0))  # its last token at 1.15
    while_it_generates = stream(2 * SLOT_S, {SLOT_S + 1.05: 0.5})
    _, picture = read([while_it_generates, *carriers], TWO, "split", 1)
    assert picture.stall_s == pytest.approx(0.0, abs=GAP_S)


def test_a_server_that_does_not_count_tokens_cannot_be_measured() -> None:
    with pytest.raises(Unmeasurable, match=r"usage\.prompt_tokens"):
        two(carrier(PICTURE, SLOT_S, prompt_tokens=None))
