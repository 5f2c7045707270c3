from typing import Any

import pytest

from bench.document.figures import figure, series, written
from bench.document.results import BadDocument, Report
from bench.document.tables import headline_table, series_table

ROWS: list[dict[str, Any]] = [
    {"policy": "first", "round": 1, "size": "4.5 MiB", "answers": 10, "p95_ms": 1234.5, "share": 0.81},
    {"policy": "first", "round": 2, "size": "4.5 MiB", "answers": 20, "p99_ms": 2000.0, "share": 0.5},
    {"policy": "last", "round": "all", "size": "64 KiB", "spread": [0.5, 1.25]},
]
REPORTS = {
    "steal-h100": Report(
        name="steal",
        commit="0123456789abcdef",
        machine={},
        versions={},
        seeds=[],
        command="chiasm bench stealing",
        headline={"ttft_p95_on_vs_off": 0.4123, "right: colour": 1.0, "decisions": 25477},
        series=ROWS,
    )
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("steal-h100.headline.decisions", 25477),
        ("steal-h100.headline.right: colour", 1.0),
        ("steal-h100.headline.ttft_p*_on_vs_off", 0.4123),
        ("matched steal-h100.headline.ttft_p*_on_vs_off", "95"),
        ("steal-h100.series[policy=first, round=2].answers", 20),
        ("steal-h100.series[round=all].size", "64 KiB"),
        ("steal-h100.series[size=4.5 MiB, round=1].p9*_ms", 1234.5),
        ("steal-h100.series.p95_ms", 1234.5),
        ("sum steal-h100.series.answers", 30),
        ("min steal-h100.series.share", 0.5),
        ("max steal-h100.series.share", 0.81),
        ("median steal-h100.series.answers", 15),
        ("count steal-h100.series[policy=first]", 2),
        ("maybe steal-h100.headline.decisions", 25477),
        ("maybe steal-h100.headline.undecided", None),
        ("maybe steal-h100.series[policy=first, round=2].answers", 20),
        ("maybe steal-h100.series[policy=first, round=2].questions", None),
        ("maybe steal-h100.series[policy=second].answers", None),
        ("steal-h100.command", "chiasm bench stealing"),
        ("steal-h100.commit", "0123456789abcdef"),
    ],
)
def test_a_figure_has_a_name(expression: str, value: object) -> None:
    assert figure(expression, REPORTS) == value


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("steal-h100", "no figure's name"),
        ("mean steal-h100.series.answers", "no figure's name"),
        ("itl.headline.slope", "no bench/results/itl.json"),
        ("steal-h100.headline.ttft_p99_on_vs_off", "0 of these figures: ttft_p95_on_vs_off, right: colour, decisions"),
        ("steal-h100.headline.*", "3 of these figures"),
        ("steal-h100.versions.python", "no part of a report"),
        ("maybe steal-h100.headline.*", "3 of these figures"),
        ("steal-h100.series[round=3].answers", "no row of bench/results/steal-h100.json"),
        ("steal-h100.series[policy=first].answers", "2 values, not one"),
        ("steal-h100.series[round=1].answer", "0 values, not one; the first row has policy, round"),
        ("sum steal-h100.series.answer", "0 values, not one"),
        ("steal-h100.series", "0 values, not one"),
    ],
)
def test_a_name_that_nothing_has_or_several_have_is_refused(expression: str, told: str) -> None:
    with pytest.raises(BadDocument) as refused:
        figure(expression, REPORTS)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (25477, "", "25,477"),
        (140.52, "", "141"),
        (0.98414, "", "0.984"),
        (3.0, "", "3"),
        (1.2, "", "1.20"),
        (99.96, "", "100"),
        ("64 KiB", "", "64 KiB"),
        (None, ".2f", "–"),
        (0.9667, ".0%", "97 %"),
        (0.41, ".3f", "0.410"),
    ],
)
def test_how_a_figure_is_written(value: object, spec: str, text: str) -> None:
    assert written(value, spec) == text


def test_a_format_that_does_not_suit_is_refused() -> None:
    with pytest.raises(BadDocument, match=r"'fast' cannot be written as '\.2f'"):
        written("fast", ".2f")


def test_rows_are_chosen_by_what_their_columns_are() -> None:
    assert series("steal-h100.series[policy=first]", REPORTS) == ROWS[:2]
    assert series("steal-h100.series", REPORTS) == ROWS


def test_a_table_of_rows() -> None:
    text = """steal-h100.series
        placed by: {policy}
        tail: {p9*_ms:,.0f} ms
        share: {share:.0%}
        spread: 1 : {spread[0]:.2f} to {spread[1]:.2f}
    """
    assert series_table(text, REPORTS).splitlines() == [
        "| placed by | tail | share | spread |",
        "| --- | ---: | ---: | ---: |",
        "| first | 1,234 ms | 81 % | – |",
        "| first | 2,000 ms | 50 % | – |",
        "| last | – | – | 1 : 0.50 to 1.25 |",
    ]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("x: {missing}", "has all of '{missing}'; the first has policy, round, size"),
        ("x: {policy:.2f}", "does not suit a row"),
        ("x: {spread[2]}", "does not suit a row"),
    ],
)
def test_a_column_that_no_row_has_or_that_does_not_suit_is_refused(column: str, told: str) -> None:
    with pytest.raises(BadDocument) as refused:
        series_table(f"steal-h100.series\n{column}", REPORTS)
    assert told in str(refused.value)


def test_a_table_of_all_headline_figures() -> None:
    assert headline_table(REPORTS["steal-h100"]).splitlines()[2:] == [
        "| `ttft_p95_on_vs_off` | 0.412 |",
        "| `right: colour` | 1 |",
        "| `decisions` | 25,477 |",
    ]


def test_a_table_that_there_need_not_be() -> None:
    assert series_table("steal-h100.series[policy=second]\nx: {policy}", REPORTS, may_be_none=True) == ""
    some = series_table("steal-h100.series[round=1]\nx: {missing}\ny: {policy}\ny: {policy}", REPORTS, may_be_none=True)
    assert series_table("steal-h100.series[round=1]\nx: {missing}", REPORTS, may_be_none=True) == ""
    assert some.splitlines() == ["| y | y |", "| --- | --- |", "| first | first |"]
