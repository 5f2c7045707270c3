"""Prices by arrangement, and what a table lacks is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.load.prices import BadPrices, by_speed, load_prices, tokens_per_dollar

TABLE: dict[str, Any] = {
    "currency": "EUR",
    "silicon": {
        "cheap": {"per_hour": 0.5, "source": "our invoice", "as_of": "2026-10-01"},
        "dear": {"per_hour": 2.0, "source": "our invoice"},
        "unknown": {"per_hour": None, "source": "yours to fill in"},
    },
    "arrangements": {"split": {"cheap": 2, "dear": 1}, "mono": {"unknown": 2}, "odd": {"nothing": 1}},
}


def written(folder: Path, table: Any) -> Path:
    path = folder / "prices.yaml"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return path


def test_an_arrangement_costs_what_its_silicon_costs(tmp_path: Path) -> None:
    prices = load_prices(written(tmp_path, TABLE))
    assert prices.currency == "EUR"
    assert prices.per_hour("split") == 3.0
    assert prices.sources("split") == {"cheap": "our invoice (2026-10-01)", "dear": "our invoice (no date)"}


@pytest.mark.parametrize(
    ("arrangement", "words"),
    [
        ("mono", r"no price for unknown\. Fill in silicon\.unknown\.per_hour"),
        ("odd", r"no price for nothing\. Fill in silicon\.nothing\.per_hour"),
        ("other", r"no arrangement other \(it has: split, mono, odd\)\. Add it"),
    ],
)
def test_what_is_not_priced_is_said(tmp_path: Path, arrangement: str, words: str) -> None:
    prices = load_prices(written(tmp_path, TABLE))
    with pytest.raises(BadPrices, match=words):
        prices.per_hour(arrangement)
    with pytest.raises(BadPrices, match=words):
        prices.sources(arrangement)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a: [", "is not YAML"),
        ("", "shows the form"),
        (
            TABLE | {"silicon": {"cheap": {"per_hour": -1, "source": "?"}}},
            r"silicon\.cheap\.per_hour: .* greater than 0",
        ),
        (TABLE | {"silicon": {"cheap": {"per_hour": 1}}}, r"silicon\.cheap\.source: Field required"),
        (TABLE | {"arrangements": {"free": {}}}, r"arrangements\.free: "),
        (TABLE | {"currencies": "EUR"}, r"currencies: "),
    ],
)
def test_a_bad_table_is_refused_by_name(tmp_path: Path, table: Any, words: str) -> None:
    path = written(tmp_path, table)
    with pytest.raises(BadPrices, match=f"(?s){path}.*{words}"):
        load_prices(path)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(BadPrices, match=r"cannot read .*gone\.yaml: No such file or directory\. Copy .*prices\.yaml"):
        load_prices(tmp_path / "gone.yaml")


def test_the_shipped_table_prices_equal_cores_equally() -> None:
    prices = load_prices()
    assert {prices.per_hour(name) for name in prices.arrangements} == {2 * 0.085}
    assert all("2026" in source for source in prices.sources("split+steal").values())


def test_a_slower_core_costs_as_much_less() -> None:
    prices = by_speed(load_prices(), 4)
    assert {prices.per_hour(name) for name in prices.arrangements} == {0.085 + 0.085 / 4}
    assert set(prices.arrangements) == set(load_prices().arrangements)
    assert "Assumed" in prices.sources("split")["slow-core"]


def test_without_the_price_of_a_core_none_of_a_slower_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadPrices, match="no price for core"):
        by_speed(load_prices(written(tmp_path, TABLE)), 2)


def test_tokens_per_dollar() -> None:
    assert tokens_per_dollar(tokens_per_s=100.0, price_per_h=2.0) == 180_000.0
