"""Slopes, ratios, growth and tails of slots with known figures, and how they are told."""

import pytest
from made_slots import BASE, DRIVE, GAP_S, PICTURE, TEXT, slots_with, with_fault

from bench.itl import fits
from bench.itl.findings import IN_BURSTS, STALL, findings, headline, side_like
from bench.itl.plan import NOTHING, Drive, Kind, Load, Slot
from bench.itl.slots import Seen
from bench.itl.tables import as_table, sheets

BURST = Slot(Kind.LIVE, Load(1, 448), 3)
BURST_BASE = Slot(Kind.LIVE, NOTHING, 3)
BURSTS = Drive("loads", 1, 8.0, (BASE, PICTURE, TEXT, BURST_BASE, BURST))


def blocks(stalls: dict[Slot, float], count: int = 4, side: str = "split", drive: Drive = DRIVE) -> list[Seen]:
    """Of which each stalls a little more than the one before."""
    return [
        one
        for block in range(1, count + 1)
        for one in slots_with({slot: s * (1 + block / 50) for slot, s in stalls.items()}, side, block, drive)
    ]


def test_the_slope_of_stalls_is_what_a_thousand_tokens_cost() -> None:
    slots = fits.of_kind(blocks({PICTURE: 1.0, TEXT: 0.8}), "split", "loads", Kind.LIVE)
    fit = fits.slope(slots, fits.stall_ms)
    assert fit is not None
    assert fit.value == pytest.approx(2050, rel=0.05)  # a second for 500 tokens
    assert list(fit.blocks) == [1, 2, 3, 4]
    assert fit.interval is not None
    assert fit.interval.low < fit.value < fit.interval.high


def test_slots_with_a_fault_are_in_no_fit() -> None:
    slots = [with_fault(one, "overloaded") if one.block == 2 else one for one in blocks({PICTURE: 1.0})]
    fit = fits.slope(fits.of_kind(slots, "split", "loads", Kind.LIVE), fits.stall_ms)
    assert fit is not None
    assert list(fit.blocks) == [1, 3, 4]


def test_few_blocks_tell_no_interval_and_none_tell_nothing() -> None:
    slots = blocks({PICTURE: 1.0}, count=2)
    fit = fits.slope(slots, fits.stall_ms)
    assert fit is not None
    assert fit.interval is None
    assert fits.slope([one for one in slots if one.slot == PICTURE], fits.stall_ms) is None


def test_a_ratio_is_of_slopes_of_the_same_blocks() -> None:
    slots = blocks({PICTURE: 1.0, TEXT: 0.8})
    image, text = (fits.slope(fits.of_kind(slots, "split", "loads", kind), fits.stall_ms) for kind in _KINDS)
    found = fits.over(image, text)
    assert found is not None
    assert found.value == pytest.approx(1.25, rel=0.05)
    assert found.interval is not None
    assert found.interval.low < 1.25 < found.interval.high or found.interval.low == pytest.approx(1.25, rel=0.05)
    assert fits.over(image, None) is None


_KINDS = (Kind.LIVE, Kind.TEXT)


def test_no_ratio_to_what_may_be_nothing() -> None:
    slots = blocks({PICTURE: 1.0})  # text stalls nobody, but for what does not come out even
    image, text = (fits.slope(fits.of_kind(slots, "split", "loads", kind), fits.stall_ms) for kind in _KINDS)
    assert image is not None
    assert text is not None
    nothing = fits.Fit(dict.fromkeys(text.blocks, 0.0) | {1: 0.1, 2: -0.1}, 0.0, text.interval)
    assert fits.over(image, nothing) is None


def grown_drives(stalls: dict[int, float]) -> list[Seen]:
    drives = [Drive(f"{streams} streams", streams, 4.0, (BASE, PICTURE)) for streams in stalls]
    return [
        one
        for block in range(1, 6)
        for drive in drives
        for one in slots_with({PICTURE: stalls[drive.streams] * (1 + block / 100)}, "split", block, drive)
    ]


@pytest.mark.parametrize(
    ("stalls", "verdict"),
    [
        ({2: 1.0, 4: 1.0, 8: 1.0}, "flat"),
        ({2: 0.5, 4: 0.9, 8: 1.7}, "linear"),
        ({2: 0.2, 4: 0.5, 8: 2.4}, "super-linear"),
    ],
)
def test_growth_with_concurrency(stalls: dict[int, float], verdict: str) -> None:
    found = fits.grown(grown_drives(stalls), "split")
    assert found is not None
    assert found.verdict == verdict, found.why
    assert list(found.stalls_ms) == list(stalls)


def test_growth_needs_three_numbers_of_bystanders_and_blocks_of_each() -> None:
    assert fits.grown(grown_drives({2: 1.0, 4: 1.0}), "split") is None
    lost = [
        with_fault(one, "overloaded") if one.drive.streams == 8 else one for one in grown_drives({2: 1, 4: 1, 8: 1})
    ]
    found = fits.grown(lost, "split")
    assert found is not None
    assert found.verdict == "undetermined"


def test_a_tail_is_of_all_gaps_together_and_its_range_leaves_out_a_block_each() -> None:
    def side(name: str, stall_s: float) -> list[Seen]:
        return fits.bursts(blocks({BURST: stall_s}, side=name, drive=BURSTS), name)

    def only_pictures(slots: list[Seen]) -> list[Seen]:
        return [one for one in slots if one.slot.load.pictures]

    mono, split = only_pictures(side("mono", 1.5)), only_pictures(side("split", 0.4))
    found = fits.tails(mono, split)
    assert found is not None
    assert found.percentile == "p95"
    assert found.range is not None
    assert found.range[0] <= found.ratio <= found.range[1]
    assert found.ms == pytest.approx((1000 * GAP_S, 1000 * GAP_S))  # one long gap of a hundred is beyond P95
    assert fits.tails(mono, []) is None


def test_findings_name_the_figures_to_quote() -> None:
    slots = blocks({PICTURE: 1.0, TEXT: 1.0, BURST: 0.3}, side="split", drive=BURSTS)
    slots += blocks({PICTURE: 3.0, TEXT: 1.0, BURST: 0.9}, side="mono-calibrated", drive=BURSTS)
    found = findings(slots, kv_token_bytes=100)
    figures = headline(found)
    assert figures["bystander_slope_image_vs_text_tokens"] == pytest.approx(1.0, rel=0.05)
    assert set(figures) == {
        "bystander_slope_image_vs_text_tokens",
        "bystander_p95_itl_mono_vs_split",
        "carrier_slope_ms_per_1k_split",
        "carrier_slope_ms_per_1k_mono",
    }
    assert {row["what"] for row in found.series} == {"point", "slope", "ratio", "tail", "slot"}
    [picture] = [row for row in found.points if (row["carriers"], row["side"]) == (PICTURE.name, "split")]
    assert (picture["tokens"], picture["blocks"], picture["left_out"]) == (500, 4, 0)
    assert picture["carrier_kv_bytes"] == 100 * (30 + 500 + 4 - 1)
    assert picture["stall_ms"] == pytest.approx(1050, rel=0.06)
    [burst] = [row for row in found.points if (row["carriers"], row["side"]) == (BURST.name, "split")]
    assert burst["stall_ms"] == pytest.approx(315, rel=0.15)  # by one of three
    [stall] = [row for row in found.slopes if (row["of"], row["side"], row["kind"]) == (STALL, "split", "live")]
    assert stall["low"] < stall["value"] < stall["high"]
    assert any(row["of"] == IN_BURSTS for row in found.slopes)
    for sheet in sheets(found):
        assert all(len(row) == len(sheet.columns) for row in sheet.rows)
        as_table(sheet)


def test_a_ratio_is_over_loads_that_came_as_both() -> None:
    larger = Slot(Kind.LIVE, Load(1, 896))
    drive = Drive("loads", 1, 4.0, (BASE, PICTURE, TEXT, larger))
    slots = blocks({PICTURE: 1.0, TEXT: 1.0, larger: 2.9}, drive=drive)  # in these it has as many tokens as the others
    [ratio] = [row for row in findings(slots, None).ratios if row["of"] == STALL]
    assert ratio["value"] == pytest.approx(1.0, abs=0.02)


def test_an_endpoint_alone_is_quoted_without_a_name() -> None:
    url = "http://127.0.0.1:8000"
    figures = headline(findings(blocks({PICTURE: 1.0, TEXT: 1.0}, side=url, drive=BURSTS), None))
    assert set(figures) == {"bystander_slope_image_vs_text_tokens", "carrier_slope_ms_per_1k"}


def test_what_is_left_out_is_told() -> None:
    slots = [with_fault(one, "overloaded") if one.slot == TEXT else one for one in blocks({PICTURE: 1.0})]
    found = findings(slots, None)
    assert [row["fault"] for row in found.left_out] == ["overloaded"] * 4
    [text] = [row for row in found.points if row["carriers"] == TEXT.name]
    assert (text["blocks"], text["left_out"], text["bystander_itl_mean_ms"]) == (0, 4, None)
    assert any(sheet.title == "Left out" for sheet in sheets(found))


def test_the_calibrated_one_is_quoted_where_there_are_several() -> None:
    assert side_like(["mono", "split", "mono-calibrated"], "mono") == "mono-calibrated"
    assert side_like(["mono", "split"], "mono") == "mono"
    assert side_like(["vllm-epd"], "mono") is None
