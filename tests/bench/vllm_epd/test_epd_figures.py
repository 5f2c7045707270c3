from pathlib import Path
from typing import Any

import pytest

from bench.load.answers import Answer
from bench.vllm_epd.figures import (
    OURS,
    THEIRS,
    THROUGHPUT,
    TTFT,
    Ratio,
    as_series,
    as_table,
    capacity_per_s,
    failed,
    headline,
    ratios,
    row,
)
from bench.vllm_epd.plan import Level, Point
from bench.vllm_epd.plots import draw

SIDES = (OURS, THEIRS)


def measured(side: str, number: int, ttft: float, rate: float, load: Level = Level.MIDDLE, images: int = 1) -> Any:
    found = {TTFT: ttft, THROUGHPUT: rate, "completed": 3, "failed": 0, "engine_cores": 1.5, "other_cores": 0.2}
    return {"arrangement": side, "images": images, "load": load.value, "round": number, **found}


def test_a_row_says_who_was_asked_what_and_counts_what_failed() -> None:
    good = Answer(0, "1img", 0.0, 0.0, (0.5, 1.0, 1.5), 2.0, 30, 3)
    bad = Answer(1, "1img", 0.0, 0.0, (), 0.1, None, 0, error="no room")
    found = row(OURS, Point(4, Level.HIGH, 2), 10.0, [good, bad])
    assert {
        "arrangement": "split",
        "images": 4,
        "load": "90 %",
        "requests_per_s": 9.0,
        "round": 2,
    }.items() <= found.items()
    assert (found["completed"], found["failed"], found["median_ttft_ms"]) == (1, 1, 500)
    assert found["output_throughput"] == 1.5
    assert row(OURS, Point(4, Level.ALL_AT_ONCE, 2), 10.0, [good])["requests_per_s"] is None


def test_times_count_from_when_a_request_was_due_and_between_tokens() -> None:
    led = Answer(0, "1img", 0.0, 0.25, (1.0, 1.0, 1.5, 2.5), 2.5, 30, 3, leading=1)
    found = row(OURS, Point(1, Level.HIGH, 1), 10.0, [led])
    assert (found["median_ttft_ms"], found["p90_ttft_ms"]) == (1000, 1000)
    assert found["median_itl_ms"] == 750  # without the role's gap of nothing it would be 500


def test_a_capacity_is_told_by_first_tokens() -> None:
    answers = [Answer(n, "1img", 0.0, 0.0, (float(n + 1), n + 9.0), n + 9.0, 30, 2) for n in range(4)]
    failed = Answer(9, "1img", 0.0, 0.0, (), 90.0, None, 0, error="no room")
    assert capacity_per_s([*answers, failed]) == 1.0


def test_a_point_where_a_request_failed_is_not_quoted() -> None:
    series = [measured(side, 1, 100.0, 10.0, level, images) for images in (1, 2) for level in Level for side in SIDES]
    assert len(headline(ratios(series))) == 6
    [broken] = [one for one in series if (one["images"], one["load"], one["arrangement"]) == (2, "60 %", THEIRS)]
    broken |= {"completed": 2, "failed": 1}
    assert set(headline(ratios(series))) == {
        "ttft_p50_vs_vllm_epd_1img",
        *("throughput_vs_vllm_epd", "throughput_vs_vllm_epd_1img", "throughput_vs_vllm_epd_2img"),
    }


def test_cores_are_told_for_each_point_of_each_side() -> None:
    series = [measured(OURS, number, 100.0, 10.0) for number in range(3)] + [measured(THEIRS, 0, 100.0, 10.0)]
    for row_, cores in zip(series, (0.5, 0.1, 0.2, 0.4), strict=True):
        row_ |= {"engine_cores": 1.0 + cores, "other_cores": cores}
    point = {"images": 1, "load": "60 %", "round": "cores"}
    assert [one for one in as_series(series, []) if one["round"] == "cores"] == [
        point | {"arrangement": OURS, "engine_cores": 1.2, "other_cores": 0.2},
        point | {"arrangement": THEIRS, "engine_cores": 1.4, "other_cores": 0.4},
    ]


def test_a_ratio_is_of_the_same_round_and_the_median_counts() -> None:
    ours, theirs = (50.0, 60.0, 300.0), (100.0, 100.0, 100.0)
    series = [measured(OURS, number, ttft, 10.0) for number, ttft in enumerate(ours)]
    series += [measured(THEIRS, number, ttft, 20.0) for number, ttft in enumerate(theirs)]
    assert ratios(series) == [
        Ratio(1, "60 %", TTFT, median=0.6, least=0.5, most=3.0),
        Ratio(1, "60 %", THROUGHPUT, median=0.5, least=0.5, most=0.5),
    ]


def test_a_round_in_which_a_side_answered_nothing_has_no_ratio() -> None:
    nothing = measured(OURS, 2, 0.0, 0.0) | {"completed": 0, "failed": 3}
    del nothing[TTFT]
    series = [
        measured(OURS, 1, 50.0, 10.0),
        measured(THEIRS, 1, 100.0, 10.0),
        nothing,
        measured(THEIRS, 2, 100.0, 10.0),
    ]
    assert [one.median for one in ratios(series)] == [0.5, 1.0]
    assert failed(series) == {OURS: 3, THEIRS: 0}
    assert ratios(series[2:]) == []


def test_the_headline_has_the_less_favourable_number_of_pictures() -> None:
    found = [
        Ratio(images, load.value, figure, median, 0.0, 9.0)
        for images, load, figure, median in (
            (1, Level.MIDDLE, TTFT, 0.8),
            (4, Level.MIDDLE, TTFT, 0.9),
            (1, Level.ALL_AT_ONCE, TTFT, 7.0),
            (1, Level.ALL_AT_ONCE, THROUGHPUT, 1.2),
            (4, Level.ALL_AT_ONCE, THROUGHPUT, 1.1),
            (1, Level.MIDDLE, THROUGHPUT, 0.1),
        )
    ]
    assert headline(found) == {
        "ttft_p50_vs_vllm_epd": 0.9,
        "ttft_p50_vs_vllm_epd_1img": 0.8,
        "ttft_p50_vs_vllm_epd_4img": 0.9,
        "throughput_vs_vllm_epd": 1.1,
        "throughput_vs_vllm_epd_1img": 1.2,
        "throughput_vs_vllm_epd_4img": 1.1,
    }


@pytest.fixture
def series() -> list[Any]:
    return [
        measured(side, number, 100.0 * number, 10.0, level, images)
        for images in (1, 4)
        for level in Level
        for side in (OURS, THEIRS)
        for number in (1, 2, 3)
    ]


def test_the_report_has_every_point_and_every_ratio(series: list[Any]) -> None:
    written = as_series(series, ratios(series))
    assert written[: len(series)] == series
    over_rounds = [one for one in written[len(series) :] if one["round"] == "all"]
    named = [(one["images"], one["load"], one["figure"]) for one in over_rounds]
    assert len(set(named)) == len(named) == 2 * len(Level) * 2
    assert all(one["median"] == 1 for one in over_rounds)


def test_a_table_and_a_picture_have_every_load(series: list[Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert as_table(series, ratios(series), 4).row_count == 2 * len(Level)
    for rows in (series, [one for one in series if one["images"] == 1]):
        draw(rows, tmp_path / "epd.svg")
        drawn = (tmp_path / "epd.svg").read_text()
        assert ("4 pictures in a request" in drawn) == (rows is series)
        assert all(f"<!-- {level.value} -->" in drawn for level in Level)
