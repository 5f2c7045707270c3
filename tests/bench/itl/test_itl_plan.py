"""What comes when: carriers by the clock, and as many bystanders as there are to be."""

import random

from bench.itl.bodies import Texts, carrier, held_pictures
from bench.itl.plan import FULL, LEAD_IN_S, LEAST_SLOT_S, QUICK, Kind, Load, Plan, Slot
from bench.itl.traffic import carriers

LOAD = Load(2, 56)
TEXTS = Texts({LOAD: 120, **dict.fromkeys(FULL.loads, 1000)}, tokens_per_letter=0.5)


def dice() -> random.Random:
    return random.Random("seed")


def needed_s(plan: Plan, encode_s: float, prefill_s: float, step_s: float) -> dict[str, float]:
    """What the heaviest carriers of each drive take where a token is encoded, prefilled and generated so fast: of a
    burst all but the last are prefilled while the next one is encoded.
    """
    return {
        drive.name: max(
            slot.pixels / 28**2 * (encode_s + prefill_s / slot.carriers) + drive.answer_tokens * step_s
            for slot in drive.heaviest
        )
        for drive in plan.drives
    }


def test_slots_are_as_long_as_the_heaviest_carriers_need_and_a_margin() -> None:
    timed = FULL.timed({"loads": 8.0, "bursts": 0.1})
    assert [drive.slot_s for drive in timed.drives] == [11.2, LEAST_SLOT_S]
    assert [drive.heaviest for drive in FULL.drives] == [
        [Slot(Kind.LIVE, Load(1, 896))],
        [Slot(Kind.LIVE, Load(2, 448), 4)],
    ]


def test_the_whole_takes_no_longer_than_it_may_on_two_cores() -> None:
    full = FULL.timed(needed_s(FULL, 0.0045, 0.002, 0.066))  # as measured there, of the bench model
    assert full.seconds([True, False]) < 27 * 60  # of 32 minutes: two for starts, three for warming up and the pilot
    assert full.blocks >= 5
    quick = needed_s(QUICK, 0.0055, 0.002, 0.066)
    pilot_s = 2 * sum(LEAD_IN_S + needed for needed in quick.values())
    assert QUICK.timed(quick).seconds([True, False]) + pilot_s < 55


def test_tokens_vary_by_size_and_by_number_from_none_to_the_most_of_a_picture() -> None:
    loads, bursts = FULL.drives
    assert not loads.slots[0].load.pictures
    assert not bursts.slots[0].load.pictures
    assert {load.side for load in FULL.loads} == {336, 448, 896}
    assert {load.pictures for load in FULL.loads} == {1, 2}
    most = Load(1, 896)  # the processor scales what is larger down
    for kind in Kind:
        assert most in {slot.load for slot in loads.slots if slot.kind is kind}
    of_four = {slot.pixels for slot in bursts.slots if slot.carriers == 4}
    assert len(of_four) == 3
    assert max(of_four) == 2 * most.side**2
    assert {slot.carriers for slot in bursts.slots if slot.load == Load(2, 448)} == {1, 2, 4}


def test_the_order_is_drawn_anew_in_each_block_and_the_same_for_every_side() -> None:
    drive = FULL.drives[0]
    with_encoded, without = drive.slots_for(True, 1), drive.slots_for(False, 1)
    assert [slot for slot in with_encoded if slot.kind is not Kind.ENCODED] == without
    assert set(with_encoded) == set(drive.slots)
    assert with_encoded != drive.slots_for(True, 2)


def test_carriers_come_at_the_beginning_of_each_slot_and_all_of_a_burst_at_once() -> None:
    drive = FULL.timed({"loads": 8.0, "bursts": 8.0}).drives[1]
    slots = drive.slots_for(True, 1)
    planned = carriers(drive, slots, TEXTS, dice())
    for number, slot in enumerate(slots):
        come = [each for each in planned if each.due_s == LEAD_IN_S + drive.slot_s * number and each.kind == slot.name]
        assert len(come) == slot.carriers
    assert len(planned) == sum(slot.carriers for slot in slots)
    assert {each.body["max_tokens"] for each in planned} == {drive.answer_tokens}


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
