"""What the tail should be with a tower, from the phases; engines are played by numbers."""

import random

import pytest
from made_slots import answer, slots_with

from bench.itl.bodies import Texts
from bench.itl.plan import Kind
from bench.itl.slots import Seen, Unmeasurable
from bench.itl.tables import Sheet
from bench.itl.towers import MONO, PICTURE, SPLIT, alone, compared, encode_s, headline, tower_plan
from bench.itl.towers_run import _draw, _sheet
from bench.load.answers import Answer
from bench.towers import VARIANTS

NARROW, DEEP = VARIANTS[0], VARIANTS[-1]
PROFILE_TTFTS = {Kind.LIVE: (1.9, 1.5, 1.7), Kind.TEXT: (0.4, 0.3, 0.2)}


def profile() -> list[Answer]:
    return [answer(kind, 1.0, (1.0 + ttft_s,)) for kind, ttfts in PROFILE_TTFTS.items() for ttft_s in ttfts]


def block(side: str, number: int, live_s: float, text_s: float) -> list[Seen]:
    drive = tower_plan(DEEP, quick=False).drives[0]
    live, text = drive.slots
    return slots_with({live: live_s / 4, text: text_s / 4}, side, number, drive)


def test_an_encode_is_what_a_picture_alone_takes_longer_than_text_alone() -> None:
    assert encode_s(profile()) == pytest.approx(1.4)
    with pytest.raises(Unmeasurable, match="profile failed: gone"):
        encode_s([*profile(), answer(Kind.LIVE, 0.0, (), error="gone")])


def test_it_is_predicted_from_encode_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.itl.fits.tail", lambda _samples: 0.999)  # one stall a slot is more than that
    slots = [one for number in range(1, 6) for one in block(MONO, number, 1.55, 0.15) + block(SPLIT, number, 0.2, 0.2)]
    found = compared(DEEP, slots, profile())
    assert found.mono_chunk_ms == pytest.approx(200)
    assert found.split_chunk_ms == pytest.approx(250)
    assert found.predicted == pytest.approx((1400 + 200) / 250)
    assert found.tails.ratio == pytest.approx(1600 / 250)
    assert found.row["measured_vs_predicted"] == pytest.approx(1.0, abs=0.01)
    assert found.row["encode_share"] == pytest.approx(1400 / 1600, abs=0.001)
    figures = headline([found])
    assert figures == {"bystander_tail_itl_mono_vs_split_deep": 6.4, "measured_vs_predicted_deep": 1.0}
    sheet: Sheet = _sheet([found])
    assert [len(row) for row in sheet.rows] == [len(sheet.columns)]


@pytest.mark.timeout(180)  # on a busy machine matplotlib alone takes half a minute
def test_measured_and_predicted_are_drawn() -> None:
    pytest.importorskip("matplotlib")
    slots = [one for number in range(1, 4) for one in block(MONO, number, 1.5, 0.1) + block(SPLIT, number, 0.2, 0.2)]
    [panel] = _draw([compared(DEEP, slots, profile())]).axes
    assert {line.get_label() for line in panel.lines} >= {"measured", "predicted from the phases"}


def test_without_a_burst_on_both_sides_there_is_nothing_to_tell() -> None:
    with pytest.raises(Unmeasurable, match="deep tower no burst counts on both sides"):
        compared(DEEP, block(MONO, 1, 1.0, 0.2), profile())


def test_a_costlier_tower_gets_more_time() -> None:
    assert tower_plan(NARROW, False).drives[0].slot_s < tower_plan(DEEP, False).drives[0].slot_s
    seconds = sum(tower_plan(variant, False).seconds([True, False]) for variant in VARIANTS)
    assert seconds < 20 * 60


def test_pictures_and_text_come_alone_in_turn() -> None:
    plan = tower_plan(DEEP, False)
    planned = alone(Texts({PICTURE: 258}, 1.0), plan, random.Random(1))
    assert [each.kind for each in planned] == ["live", "text"] * 5
    assert planned[1].due_s - planned[0].due_s == pytest.approx(plan.drives[0].slot_s / 4)
