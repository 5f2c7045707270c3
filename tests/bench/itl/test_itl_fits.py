"""Slopes, ratios and growth of slots with known figures, and how they are told."""

from dataclasses import replace

import pytest
from made_slots import BASE, DRIVE, PICTURE, TEXT, failed, overloaded, slots_with

from bench.itl import fits
from bench.itl.findings import IN_BURSTS, STALL, findings, headline, side_like
from bench.itl.plan import NOTHING, Drive, Kind, Load, Slot
from bench.itl.slots import Seen
from bench.itl.tables import sheets

pytestmark = pytest.mark.slow

LARGER, LARGER_TEXT = Slot(Kind.LIVE, Load(1, 896)), Slot(Kind.TEXT, Load(1, 896))
THREE = Drive("loads", 1, (BASE, PICTURE, TEXT, LARGER, LARGER_TEXT), 4, 8.0)
BURSTS = (Slot(Kind.LIVE, NOTHING, 3), *(Slot(Kind.LIVE, Load(1, side), 3) for side in (224, 448)))
BURST = BURSTS[-1]
WITH_BURSTS = Drive("loads", 1, (BASE, PICTURE, TEXT, *BURSTS), 4, 12.0)


def blocks(stalls: dict[Slot, float], count: int = 5, side: str = "split", drive: Drive = DRIVE) -> list[Seen]:
    """Of which each stalls a little more than the one before."""
    return [
        one
        for block in range(1, count + 1)
        for one in slots_with({slot: s * (1 + block / 50) for slot, s in stalls.items()}, side, block, drive)
    ]


def test_the_slope_of_stalls_is_what_a_thousand_tokens_cost() -> None:
    slots = fits.of_kind(blocks({PICTURE: 1.0, TEXT: 0.8}), "split", Kind.LIVE)
    fit = fits.slope(slots, fits.stall_ms)
    assert fit is not None
    assert fit.value == pytest.approx(2060, rel=0.05)  # a second for 500 tokens
    assert list(fit.blocks) == [1, 2, 3, 4, 5]
    assert fit.is_quotable
    assert fit.interval is not None
    assert fit.interval.low < fit.value < fit.interval.high


def test_slots_with_a_fault_are_in_no_fit() -> None:
    slots = [overloaded(one) if one.block == 2 else one for one in blocks({PICTURE: 1.0})]
    fit = fits.slope(fits.of_kind(slots, "split", Kind.LIVE), fits.stall_ms)
    assert fit is not None
    assert list(fit.blocks) == [1, 3, 4, 5]
    assert (fit.slots, fit.lost) == (10, 2)
    assert not fit.is_quotable


def test_few_blocks_tell_no_interval_and_none_tell_nothing() -> None:
    slots = blocks({PICTURE: 1.0}, count=2)
    fit = fits.slope(slots, fits.stall_ms)
    assert fit is not None
    assert fit.interval is None
    assert fits.slope([one for one in slots if one.slot == PICTURE], fits.stall_ms) is None


def convex(loses: tuple[Slot, ...] = ()) -> list[Seen]:
    """Twice the tokens stall by three times as much, pictures as well as text; of three blocks some slots are lost."""
    slots = blocks({PICTURE: 0.5, TEXT: 0.5, LARGER: 1.5, LARGER_TEXT: 1.5}, drive=THREE)
    return [overloaded(one) if one.slot in loses and one.block > 2 else one for one in slots]


def test_a_ratio_is_over_the_same_loads_in_each_block() -> None:
    whole = fits.slope_to_text(convex(), "split", Kind.LIVE, fits.stall_ms)
    assert whole is not None
    assert whole.value == pytest.approx(1.0, abs=0.02)
    assert (whole.slots, whole.lost) == (25, 0)
    assert whole.is_quotable
    found = fits.slope_to_text(convex(loses=(LARGER,)), "split", Kind.LIVE, fits.stall_ms)
    assert found is not None
    assert found.value == pytest.approx(1.0, abs=0.02)  # else pictures had the gentle part, and text all of it
    assert list(found.blocks) == [1, 2, 3, 4, 5]
    assert (found.slots, found.lost) == (25, 3)
    assert not found.is_quotable


def test_a_ratio_is_over_loads_that_came_as_both() -> None:
    drive = Drive("loads", 1, (BASE, PICTURE, TEXT, LARGER), 4, 8.0)
    slots = blocks({PICTURE: 1.0, TEXT: 0.8, LARGER: 5.0}, drive=drive)
    found = fits.slope_to_text(slots, "split", Kind.LIVE, fits.stall_ms)
    assert found is not None
    assert found.value == pytest.approx(1.25)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((1.25, 1.25))
    assert fits.slope_to_text(slots, "split", Kind.ENCODED, fits.stall_ms) is None


def test_no_ratio_to_what_may_be_nothing() -> None:
    assert fits.over({1: 1.0, 2: 1.1, 3: 0.9}, {1: 0.1, 2: -0.1, 3: 0.0}, 6, 0) is None
    assert fits.over({1: 1.0}, {1: 0.0}, 2, 0) is None
    two = fits.over({1: 1.0, 2: 3.0}, {1: 1.0, 2: 1.0}, 4, 0)
    assert two is not None
    assert (two.value, two.interval) == (2.0, None)


def grown_blocks(stalls: dict[int, float]) -> list[Seen]:
    """By each of so many carriers at once."""
    slots = tuple(Slot(Kind.LIVE, Load(1, 448), carriers) for carriers in stalls)
    drive = Drive("bursts", 1, (Slot(Kind.LIVE, NOTHING, 4), *slots), 4, 30.0)
    each = {slot: stalls[slot.carriers] for slot in slots}
    return [
        one
        for block in range(1, 6)
        for one in slots_with({slot: s * (1 + block / 100) for slot, s in each.items()}, "split", block, drive)
    ]


@pytest.mark.parametrize(
    ("stalls", "verdict"),
    [
        ({1: 2.0, 2: 1.0, 4: 0.5}, "flat"),  # as much, however many
        ({1: 0.5, 2: 0.5, 4: 0.5}, "linear"),
        ({1: 0.5, 2: 1.0, 4: 2.0}, "super-linear"),
    ],
)
def test_growth_with_the_number_of_image_requests(stalls: dict[int, float], verdict: str) -> None:
    found = fits.grown(grown_blocks(stalls), "split")
    assert found is not None
    assert found.verdict == verdict, found.why
    assert list(found.stalls_ms) == list(stalls)
    assert found.stalls_ms[4] == pytest.approx(4000 * stalls[4], rel=0.05)
    assert found.blocks == 5


def test_growth_needs_three_numbers_of_requests_and_whole_blocks() -> None:
    assert fits.grown(grown_blocks({1: 1.0, 2: 1.0}), "split") is None
    slots = grown_blocks({1: 0.5, 2: 0.5, 4: 0.5})
    few = fits.grown([overloaded(one) if one.slot.carriers == 4 and one.block > 2 else one for one in slots], "split")
    assert few is not None
    assert (few.verdict, few.blocks) == ("undetermined", 2)


def test_findings_name_the_figures_to_quote() -> None:
    slots = blocks({PICTURE: 1.0, TEXT: 1.0, BURST: 0.3, BURSTS[1]: 0.15}, side="split", drive=WITH_BURSTS)
    slots += blocks({PICTURE: 3.0, TEXT: 1.0, BURST: 0.9, BURSTS[1]: 0.45}, side="mono-calibrated", drive=WITH_BURSTS)
    found = findings(slots, kv_token_bytes=100)
    figures = headline(found)
    assert figures["bystander_slope_image_vs_text_tokens"] == pytest.approx(1.0, rel=0.05)
    assert set(figures) == {
        "bystander_slope_image_vs_text_tokens",
        "bystander_p95_itl_mono_vs_split",  # so few gaps tell no P99
        "carrier_slope_ms_per_1k_split",
        "carrier_slope_ms_per_1k_mono",
        "largest_image_ttft_p50_split_vs_mono",
    }
    assert {row["what"] for row in found.series} == {"point", "slope", "ratio", "tail", "ttft", "slot"}
    [picture] = [row for row in found.points if (row["carriers"], row["side"]) == (PICTURE.name, "split")]
    assert (picture["tokens"], picture["blocks"], picture["left_out"]) == (500, 5, 0)
    assert picture["carrier_kv_bytes"] == 100 * (30 + 500 + 4 - 1)
    assert picture["stall_ms"] == pytest.approx(1060, rel=0.06)
    [burst] = [row for row in found.points if (row["carriers"], row["side"]) == (BURST.name, "split")]
    assert burst["stall_ms"] == pytest.approx(950, rel=0.06)  # by all three
    [stall] = [row for row in found.slopes if (row["of"], row["side"], row["kind"]) == (STALL, "split", "live")]
    assert stall["low"] < stall["value"] < stall["high"]
    [in_bursts] = [row for row in found.slopes if (row["of"], row["side"]) == (IN_BURSTS, "split")]
    assert (in_bursts["slots"], in_bursts["lost"], len(in_bursts["blocks"])) == (15, 0, 5)
    for sheet in sheets(found):
        assert all(len(row) == len(sheet.columns) for row in sheet.rows)


def test_the_tail_of_the_largest_burst_is_quoted_where_there_are_gaps_enough() -> None:
    slots: list[Seen] = []
    for side, stall_s in (("split", 0.3), ("mono", 0.9)):
        for block in range(1, 21):
            slots += slots_with({BURST: stall_s, BURSTS[1]: stall_s / 10}, side, block, WITH_BURSTS, first_s=5.8)
    found = findings(slots, None)
    assert headline(found)["bystander_p99_itl_mono_vs_split"] == pytest.approx(2750 / 950, abs=0.01)
    few = [one for one in slots if one.block < 5]
    assert not any(name.startswith("bystander") for name in headline(findings(few, None)))


def test_a_smaller_picture_is_not_quoted_for_the_largest_one() -> None:
    """Of which the first was not answered, so that nobody told how many tokens it had."""
    large = Slot(Kind.LIVE, Load(1, 896))
    drive = replace(DRIVE, slots=(*DRIVE.slots, large))
    slots = blocks({}, side="split", drive=drive) + blocks({}, side="mono", drive=drive)
    assert "largest_image_ttft_p50_split_vs_mono" in headline(findings(slots, None))
    lost = [replace(failed(one), tokens=0) if (one.slot, one.block) == (large, 1) else one for one in slots]
    assert "largest_image_ttft_p50_split_vs_mono" not in headline(findings(lost, None))


def test_samples_tell_as_high_a_share_as_they_are_many() -> None:
    [point] = [row for row in findings(blocks({}), None).points if row["carriers"] == PICTURE.name]
    assert point["carrier_ttft_n"] == 5
    assert {"carrier_ttft_p50_ms", "carrier_ttft_max_ms"} <= set(point)
    assert "carrier_ttft_p90_ms" not in point
    assert point["carrier_itl_n"] == 15
    assert "carrier_itl_p90_ms" in point
    assert "carrier_itl_p95_ms" not in point
    assert "bystander_itl_p95_ms" in point
    told = next(sheet for sheet in sheets(findings(blocks({}), None)) if sheet.title.startswith("Carriers"))
    assert any("(max of 5)" in cell for row in told.rows for cell in row)


def test_an_endpoint_alone_is_quoted_without_a_name() -> None:
    url = "http://127.0.0.1:8000"
    figures = headline(findings(blocks({PICTURE: 1.0, TEXT: 1.0}, side=url, drive=WITH_BURSTS), None))
    assert set(figures) == {"bystander_slope_image_vs_text_tokens", "carrier_slope_ms_per_1k"}


def test_what_is_left_out_is_told() -> None:
    slots = [overloaded(one) if one.slot == TEXT else one for one in blocks({PICTURE: 1.0})]
    found = findings(slots, None)
    assert [row["fault"] for row in found.left_out] == ["overloaded"] * 5
    [text] = [row for row in found.points if row["carriers"] == TEXT.name]
    assert (text["blocks"], text["left_out"], text["bystander_itl_mean_ms"]) == (0, 5, None)
    assert any(sheet.title == "Left out" for sheet in sheets(found))


def test_the_calibrated_one_is_quoted_where_there_are_several() -> None:
    assert side_like(["mono", "split", "mono-calibrated"], "mono") == "mono-calibrated"
    assert side_like(["mono", "split"], "mono") == "mono"
    assert side_like(["vllm-epd"], "mono") is None
