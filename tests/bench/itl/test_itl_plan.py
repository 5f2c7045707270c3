"""What comes when: carriers by the clock, and as many bystanders as there are to be."""

import random

import pytest

from bench.itl.bodies import Texts, carrier, held_pictures
from bench.itl.plan import FULL, LEAD_IN_S, QUICK, Kind, Load
from bench.itl.traffic import BYSTANDER, bystanders, requests

LOAD = Load(2, 56)
TEXTS = Texts({LOAD: 120, **dict.fromkeys(FULL.loads, 1000)}, tokens_per_letter=0.5)


def dice() -> random.Random:
    return random.Random("seed")


def test_it_takes_no_longer_than_it_may() -> None:
    assert FULL.seconds([True, False]) < 24 * 60  # of 25 minutes: warming up takes some
    assert QUICK.seconds([True, False]) < 50
    assert FULL.blocks >= 5


def test_tokens_vary_by_size_and_by_number_from_none_to_the_most_of_a_picture() -> None:
    slots = FULL.drives[0].slots
    assert not slots[0].load.pictures
    assert {load.side for load in FULL.loads} == {448, 896}
    assert {load.pictures for load in FULL.loads} == {1, 2, 4}
    for kind in Kind:
        assert {slot.load for slot in slots if slot.kind is kind and slot.carriers == 1} >= {Load(1, 896), Load(4, 448)}


def test_the_order_is_drawn_anew_in_each_block_and_the_same_for_every_side() -> None:
    drive = FULL.drives[0]
    with_encoded, without = drive.slots_for(True, 1), drive.slots_for(False, 1)
    assert [slot for slot in with_encoded if slot.kind is not Kind.ENCODED] == without
    assert set(with_encoded) == set(drive.slots)
    assert with_encoded != drive.slots_for(True, 2)


def test_other_times_are_in_proportion() -> None:
    slower = FULL.every(19.0)
    assert [drive.slot_s for drive in slower.drives] == [19.0, 11.0, 11.0]
    assert slower.drives[0].slots == FULL.drives[0].slots


@pytest.mark.parametrize("streams", [1, 4, 8])
def test_there_are_always_so_many_bystanders(streams: int) -> None:
    lives = bystanders(streams, 5.0, 60.0)
    for moment in (0.01, 3.33, 17.77, 42.01, 59.9):
        assert sum(due <= moment < due + life for due, life in lives) == streams
    assert max(due + life for due, life in lives) <= 60.0 + 1e-9


def test_a_carrier_comes_at_the_beginning_of_each_slot_and_all_of_a_burst_at_once() -> None:
    drive = FULL.drives[0]
    slots = drive.slots_for(True, 1)
    planned = requests(FULL, drive, slots, TEXTS, 0.05, dice())
    for number, slot in enumerate(slots):
        come = [each for each in planned if each.due_s == LEAD_IN_S + drive.slot_s * number and each.kind == slot.name]
        assert len(come) == slot.carriers
    answers = {each.body["max_tokens"] for each in planned if each.kind != BYSTANDER}
    assert answers == {FULL.answer_tokens, FULL.burst_tokens}
    lengths = [each.body["max_tokens"] for each in planned if each.kind == BYSTANDER]
    assert max(lengths) == FULL.bystander_s / 0.05


def test_no_two_prompts_begin_alike() -> None:
    chance = dice()
    bodies = [carrier(kind, LOAD, 4, TEXTS, chance) for kind in Kind for _ in range(3)]
    begins = set()
    for body in bodies:
        content = body["messages"][0]["content"]
        begins.add((content if isinstance(content, str) else content[0]["text"])[:16])
    assert len(begins) == len(bodies)


def test_encoded_pictures_are_known_and_live_ones_are_not() -> None:
    def urls(kind: Kind) -> list[str]:
        parts = carrier(kind, LOAD, 4, TEXTS, dice_of_all)["messages"][0]["content"][1:]
        return [part["image_url"]["url"] for part in parts]

    dice_of_all = dice()
    assert urls(Kind.ENCODED) == urls(Kind.ENCODED) == held_pictures(LOAD)
    live = urls(Kind.LIVE) + urls(Kind.LIVE)
    assert len(set(live)) == 4
    assert not set(live) & set(held_pictures(LOAD))


def test_text_has_as_many_tokens_as_the_pictures() -> None:
    empty = carrier(Kind.LIVE, Load(0, 0), 4, TEXTS, dice())["messages"][0]["content"]
    text = carrier(Kind.TEXT, LOAD, 4, TEXTS, dice())["messages"][0]["content"]
    assert len(text) - len(empty) == 240  # letters of half a token
