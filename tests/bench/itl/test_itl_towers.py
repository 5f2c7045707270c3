"""What the tail should be with a tower, from the phases of each block; engines are played by numbers."""

from dataclasses import replace

import pytest
from made_slots import GAP_S, answer, carrier, failed, stream

from bench.itl import towers_run
from bench.itl.plan import Drive, Kind, Plan, Slot
from bench.itl.run import Measured
from bench.itl.slots import Seen, Unmeasurable, read
from bench.itl.towers import CASES, MONO, SPLIT, compared, headline
from bench.itl.towers_run import _draw, _sheet
from bench.sheets import Sheet
from bench.towers import Variant

DEEP, LARGE = CASES[-2:]
BURST, CHUNKS, ALONE = DEEP.plan(quick=False).timed({"burst": 16.0, "chunks": 1.4, "alone": 2.4}).drives
COMPUTED_S = {"burst": 8.0, "chunks": 1.0}  # until the last carrier of a slot has its first token
TTFTS = {Kind.LIVE: (1.4, 1.7, 1.6, 1.5), Kind.TEXT: (0.2, 0.3, 0.2, 0.2)}


def alone(side: str, number: int, slower: float) -> list[Seen]:
    answers = []
    for turn in range(4):
        for kind, ttfts in TTFTS.items():
            due_s = 6 * turn + 3 * (kind is Kind.TEXT)
            ttft_s = ttfts[turn] + slower * (kind is Kind.LIVE)
            answers.append(answer(Slot(kind, DEEP.picture).name, due_s, (due_s + ttft_s,)))
    return read(answers, ALONE, side, number)


def beside(drive: Drive, side: str, number: int, gap_s: float) -> list[Seen]:
    """As many long gaps as there are carriers, in one slot or in as many, of that length in the mean."""
    waits, carriers, gaps_s = {}, [], iter(gap_s * (0.7 + 0.2 * each) for each in range(4))
    for place, slot in enumerate(drive.slots):
        begins_s = drive.slot_s * place
        waits |= {begins_s + each / 1e6: next(gaps_s) - GAP_S for each in range(slot.carriers)}
        carriers += [carrier(slot, begins_s, COMPUTED_S[drive.name])] * slot.carriers
    return read([stream(drive.slot_s * len(drive.slots), waits), *carriers], drive, side, number)


def block(side: str, number: int, live_s: float, text_s: float, slower: float = 0.0) -> list[Seen]:
    chunks = beside(CHUNKS, side, number, text_s)
    return [*beside(BURST, side, number, live_s), *chunks, *alone(side, number, slower)]


def blocks(count: int = 5) -> list[Seen]:
    """Of which each has a monolithic engine whose encodes are slower."""
    pairs = [
        block(MONO, n, 1.55 + n / 10, 0.2, slower=n / 10) + block(SPLIT, n, 0.25, 0.25) for n in range(1, count + 1)
    ]
    return [one for pair in pairs for one in pair]


def test_the_dearest_tower_has_larger_pictures_too_whose_encodes_take_longer() -> None:
    assert [(case.name, case.tokens) for case in CASES] == [
        ("narrow", 256),
        ("slim", 256),
        ("bench", 256),
        ("deep", 256),
        ("deep_576", 576),
    ]
    ratios = [case.variant.ratio(case.tokens) for case in CASES]
    assert ratios == sorted(ratios)
    burst, chunks, alone = LARGE.plan(quick=False).drives
    assert {slot.load.side for slot in (*burst.slots, *chunks.slots, *alone.slots)} == {672}
    assert [slot.carriers for slot in burst.slots] == [2]
    assert (len(chunks.slots), len(alone.slots)) == (2, 2 + 2)


def test_chunks_are_of_texts_that_come_one_at_a_time_as_pictures_do_from_their_encodes() -> None:
    assert [(slot.kind, slot.carriers) for slot in CHUNKS.slots] == [(Kind.TEXT, 1)] * 4
    assert CHUNKS.heaviest == [CHUNKS.slots[0]]
    assert CHUNKS.streams == BURST.streams


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
    found = compared(DEEP, blocks(3))
    [panel] = _draw([found, replace(found, case=LARGE)]).axes
    labels = [str(line.get_label()) for line in panel.lines]
    assert [label for label in labels if not label.startswith("_")] == ["measured", "predicted from the phases"]
    assert {text.get_text() for text in panel.texts} == {"Gemma-3-4B, 256 tokens", "Gemma-3-4B, 576 tokens"}


def test_a_text_that_failed_costs_its_block() -> None:
    slots = blocks()
    lost = next(place for place, one in enumerate(slots) if one.drive is CHUNKS and one.block == 2)
    found = compared(DEEP, [failed(one) if place == lost else one for place, one in enumerate(slots)])
    assert (len(found.blocks), found.row["lost"]) == (4, 1)


def test_a_case_that_cannot_be_told_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(plan: Plan, subject: object, folder: object, console: object) -> Measured:
        if plan == LARGE.plan(quick=False):
            raise Unmeasurable("The largest carrier failed on split: too long")
        return Measured(plan, blocks(), {MONO: [128]}, None, "made up")

    class NothingStarts:
        def __init__(self, *_: object) -> None: ...

        def described(self) -> dict[str, str]:
            return {}

    monkeypatch.setattr(towers_run, "measure", measured)
    monkeypatch.setattr(towers_run, "Arrangements", NothingStarts)
    monkeypatch.setattr(Variant, "build", lambda self: None)
    results = towers_run.compare_towers(False, None, "chiasm bench itl --towers")
    assert [row["variant"] for row in results.series if row["what"] == "tower"] == [case.name for case in CASES[:-1]]
    [lost] = [row for row in results.series if row["what"] == "left out"]
    assert (lost["variant"], lost["fault"]) == ("deep_576", "The largest carrier failed on split: too long")
    monkeypatch.setattr(towers_run, "CASES", [LARGE])
    with pytest.raises(Unmeasurable, match="too long"):
        towers_run.compare_towers(False, None, "chiasm bench itl --towers")


def test_without_a_block_on_both_sides_there_is_nothing_to_tell() -> None:
    with pytest.raises(Unmeasurable, match="deep tower no block is whole on both sides"):
        compared(DEEP, block(MONO, 1, 1.0, 0.2))
