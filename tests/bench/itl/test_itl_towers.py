"""What the tail should be with a tower, from the phases of each block; engines are played by numbers."""

import pytest
from made_slots import GAP_S, answer, carrier, failed, stream

from bench.itl.plan import Kind, Slot
from bench.itl.slots import Seen, Unmeasurable, read
from bench.itl.tables import Sheet
from bench.itl.towers import MONO, PICTURE, SPLIT, compared, headline, tower_plan
from bench.itl.towers_run import _draw, _sheet
from bench.towers import VARIANTS

NARROW, DEEP = VARIANTS[0], VARIANTS[-1]
BURSTS, ALONE = tower_plan(quick=False).timed({"bursts": 16.0, "alone": 2.4}).drives
COMPUTED_S = 8.0  # until the last carrier of a burst has its first token
TTFTS = {Kind.LIVE: (1.4, 1.7, 1.6, 1.5), Kind.TEXT: (0.2, 0.3, 0.2, 0.2)}


def alone(side: str, number: int, slower: float) -> list[Seen]:
    answers = []
    for turn in range(4):
        for kind, ttfts in TTFTS.items():
            due_s = 6 * turn + 3 * (kind is Kind.TEXT)
            ttft_s = ttfts[turn] + slower * (kind is Kind.LIVE)
            answers.append(answer(Slot(kind, PICTURE).name, due_s, (due_s + ttft_s,)))
    return read(answers, ALONE, side, number)


def bursts(side: str, number: int, gaps_s: tuple[float, ...]) -> list[Seen]:
    """For each slot as many gaps as it has carriers, of that length in the mean."""
    waits, carriers = {}, []
    for place, (slot, gap_s) in enumerate(zip(BURSTS.slots, gaps_s, strict=True)):
        begins_s = BURSTS.slot_s * place
        waits |= {begins_s + each / 1e6: gap_s * (0.7 + 0.2 * each) - GAP_S for each in range(slot.carriers)}
        carriers += [carrier(slot, begins_s, COMPUTED_S)] * slot.carriers
    return read([stream(2 * BURSTS.slot_s, waits), *carriers], BURSTS, side, number)


def block(side: str, number: int, live_s: float, text_s: float, slower: float = 0.0) -> list[Seen]:
    return [*bursts(side, number, (live_s, text_s)), *alone(side, number, slower)]


def blocks(count: int = 5) -> list[Seen]:
    """Of which each has a monolithic engine whose encodes are slower."""
    pairs = [
        block(MONO, n, 1.55 + n / 10, 0.2, slower=n / 10) + block(SPLIT, n, 0.25, 0.25) for n in range(1, count + 1)
    ]
    return [one for pair in pairs for one in pair]


def test_it_is_predicted_from_encode_and_chunks_of_the_same_block() -> None:
    found = compared(DEEP, blocks())
    assert len(found.blocks) == 5
    first = found.blocks[0]
    assert first.encode_ms == pytest.approx(1450)  # medians of four: 1.65 and 0.2 s
    assert [first.mono_chunk_ms, first.split_chunk_ms] == pytest.approx([200, 250])
    assert first.predicted == pytest.approx((1450 + 200) / 250)
    assert first.measured == pytest.approx(1650 / 250)
    assert [first.mono_ttft_ms, first.split_ttft_ms] == pytest.approx([1650, 1550])
    row = found.row
    assert row["measured_vs_predicted"] == pytest.approx(1.0)
    assert [row["measured_vs_predicted_low"], row["measured_vs_predicted_high"]] == pytest.approx([1.0, 1.0])
    assert row["measured_low"] < row["measured"] < row["measured_high"]
    figures = headline([found])
    assert figures == {
        "bystander_tail_itl_mono_vs_split_deep": row["measured"],
        "measured_vs_predicted_deep": 1.0,
    }
    sheet: Sheet = _sheet([found])
    assert [len(row) for row in sheet.rows] == [len(sheet.columns)]


def test_a_block_in_which_something_failed_is_lost_and_four_are_too_few_to_quote() -> None:
    slots = blocks()
    lost = [failed(one) if one.block == 3 and one.drive is ALONE else one for one in slots]
    found = compared(DEEP, lost)
    assert (len(found.blocks), found.row["lost"]) == (4, 1)
    assert headline([found]) == {}


@pytest.mark.timeout(180)  # on a busy machine matplotlib alone takes half a minute
def test_measured_and_predicted_are_drawn() -> None:
    pytest.importorskip("matplotlib")
    [panel] = _draw([compared(DEEP, blocks(3))]).axes
    assert {line.get_label() for line in panel.lines} >= {"measured", "predicted from the phases"}


def test_without_a_block_on_both_sides_there_is_nothing_to_tell() -> None:
    with pytest.raises(Unmeasurable, match="deep tower no block is whole on both sides"):
        compared(DEEP, block(MONO, 1, 1.0, 0.2))
