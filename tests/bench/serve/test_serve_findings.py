"""From answers to rows, the headline, tables and plots."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from made_answers import alike, answer, rung
from rich.console import Console

from bench.load.goodput import Objectives
from bench.load.prices import load_prices
from bench.load.workloads import MIXES
from bench.serve.findings import Row, best_monolithic, headline, rows, tail_of
from bench.serve.measured import Contest, Measured, Side
from bench.serve.plan import DEFAULT, Plan
from bench.serve.plots import plot_curves
from bench.serve.regions import grids, loses
from bench.serve.staircase import Round
from bench.serve.tables import ratio_grids, summaries
from bench.sheets import fitted

pytestmark = pytest.mark.slow

OBJECTIVES = Objectives(ttft_ms=1000, itl_ms=200)
PRICES = load_prices()
AT_ONCE = [answer(100, 50) for _ in range(11)]  # ten a second
LADDER = {1.0: range(3), 2.0: range(3, 6), 3.0: range(6, 9)}


def ladder(ttft_ms: float, *itls_ms: float, kind: str = "1img") -> Round:
    return {rate: rung(alike(3, ttft_ms, itl_ms, kind)) for rate, itl_ms in zip(LADDER, itls_ms, strict=True)}


def contest(workload: str = "1img") -> Contest:
    """The plain engine bears 1.5 requests/s within 200 ms, two of them 2.5 but start later, the split 2."""
    sides = {
        "mono": [ladder(100, 100, 300, 900)] * 2,
        "mono-x2": [ladder(150, 100, 150, 250)] * 2,
        "split": [ladder(200, 100, 150, 350), ladder(300, 100, 150, 350)],
    }
    found = Contest(workload, capacity=4.0, ladder=LADDER)
    found.sides = {name: Side(name, [AT_ONCE] * len(rounds), list(rounds)) for name, rounds in sides.items()}
    return found


def measured(*contests: Contest) -> Measured:
    plan = Plan(("mono", "mono-x2", "split"), (MIXES["1img"],), DEFAULT, objectives=OBJECTIVES)
    return Measured(plan, {one.workload: one for one in contests})


def of(series: list[Row], what: str, arrangement: str) -> list[Row]:
    return [row for row in series if (row["what"], row["arrangement"]) == (what, arrangement)]


def test_the_split_is_held_against_the_best_monolithic_arrangement() -> None:
    best = best_monolithic(contest(), OBJECTIVES)
    assert best is not None
    assert best.name == "mono-x2"
    [row] = of(rows(measured(contest()), PRICES), "summary", "split")
    assert row["best_mono"] == "mono-x2"
    assert row["goodput_per_s"] == pytest.approx(2.25)
    assert row["vs_best_mono"] == pytest.approx(0.9)
    assert row["vs_best_mono_bound"] == ""
    assert row["burst_vs_best_mono"] == pytest.approx(1.0)


def test_what_is_answered_at_once_is_held_against_the_most_of_any_monolithic_arrangement() -> None:
    found = contest()
    for name, itls_ms in (("mono", (50, 55, 60)), ("mono-x2", (50, 50, 50)), ("split", (60, 70, 65))):
        bursts = [[answer(100, itl_ms)] * 11 for itl_ms in itls_ms]
        found.sides[name] = Side(name, bursts, [ladder(100, 100, 300, 900)] * 3)
    [row] = of(rows(measured(found), PRICES), "summary", "split")
    assert row["burst_vs_best_mono"] == pytest.approx(3.3 / (1.3 + 1.5 + 1.4), abs=1e-4)
    assert row["burst_vs_best_mono_low"] < row["burst_vs_best_mono"] < row["burst_vs_best_mono_high"]
    [mono] = of(rows(measured(found), PRICES), "summary", "mono")
    assert mono["burst_vs_best_mono"] == pytest.approx(3.3 / 3.6, abs=1e-4)
    [best] = of(rows(measured(found), PRICES), "summary", "mono-x2")
    assert "burst_vs_best_mono" not in best


def test_how_busy_cores_are_in_bursts_is_told_of_what_runs_here() -> None:
    found = contest()
    found.sides["split"].busy = [(0.5, 0.9), (0.7, 1.0)]
    found.sides["http://there"] = Side("http://there", [AT_ONCE], [ladder(100, 50, 50, 50)], [(0.1, 0.1)])
    [row] = of(rows(measured(found), PRICES), "summary", "split")
    assert (row["burst_encoder_cores_busy"], row["burst_decoder_cores_busy"]) == pytest.approx((0.6, 0.95))
    [remote] = of(rows(measured(found), PRICES), "summary", "http://there")
    assert not any("busy" in name for name in remote)


def test_who_is_there_again_is_held_against_itself() -> None:
    found = contest()
    slower = [[answer(100, 60) for _ in range(11)]] * 2  # 1.3 s where it was 1.1
    found.again["mono again 1"] = Side("mono again 1", slower)
    series = rows(measured(found), PRICES)
    [drift] = [row for row in series if row["what"] == "drift"]
    assert (drift["arrangement"], drift["again"]) == ("mono", "mono again 1")
    assert drift["burst_vs_first"] == pytest.approx(1.1 / 1.3, abs=1e-4)
    assert not of(series, "summary", "mono again 1")


def test_all_are_held_at_one_percentile_that_of_whoever_has_the_fewest_samples() -> None:
    many = {rate: rung(alike(1000, 100, 50)) for rate in LADDER}
    found = Contest("1img", capacity=4.0, ladder=LADDER)
    found.sides = {name: Side(name, [AT_ONCE], [many]) for name in ("mono", "split")}
    assert {row["percentiles"] for row in rows(measured(found), PRICES) if "percentiles" in row} == {
        "P99 of TTFT, P99 of ITL"
    }
    fewer = Contest("1img", capacity=4.0, ladder=LADDER, sides=dict(found.sides))
    fewer.sides["mono"] = Side("mono", [AT_ONCE], [ladder(100, 50, 50, 50)])
    told = {row["arrangement"]: row["percentiles"] for row in rows(measured(fewer), PRICES) if "percentiles" in row}
    assert told == dict.fromkeys(("mono", "split"), "P95 of TTFT, P95 of ITL")


def test_under_other_objectives_another_one_may_be_the_best() -> None:
    best = best_monolithic(contest(), Objectives(ttft_ms=120, itl_ms=1000))
    assert best is not None
    assert best.name == "mono"


def test_the_best_is_one_of_which_nobody_knows_how_much_more_it_bears() -> None:
    found = contest()
    a_little_more = [answer(100, 1000 * 11 / 3.2 / 20 - 5) for _ in range(11)]  # 3.2 a second
    found.sides["mono"] = Side("mono", [AT_ONCE] * 2, [ladder(100, 100, 100, 100)] * 2)
    found.sides["mono-x2"] = Side("mono-x2", [a_little_more] * 2, [ladder(100, 100, 100, 100)] * 2)
    reached = {name: found.climbs[name].goodput(OBJECTIVES) for name in ("mono", "mono-x2")}
    assert reached["mono"] == 3.0 < reached["mono-x2"] < 3.3
    best = best_monolithic(found, OBJECTIVES)
    assert best is not None
    assert best.name == "mono"
    [row] = of(rows(measured(found), PRICES), "summary", "split")
    assert row["vs_best_mono_bound"] == "at most"


def test_what_failed_of_many_at_once_is_told() -> None:
    found = contest()
    found.sides["split"].bursts = [[*AT_ONCE, answer(1, 1, error="no")], AT_ONCE]
    series = rows(measured(found), PRICES)
    assert [row["burst_failed"] for row in of(series, "summary", "split")] == [1]
    [sheet] = summaries(series)
    at_once = {row[0]: row[2] for row in sheet.rows}
    assert at_once == {"mono": "10.00", "mono-x2": "10.00", "split": "10.00, 1 failed"}


def test_the_headline_has_every_workload_and_the_time_to_first_token_of_one_image() -> None:
    found = headline(measured(contest("text"), contest("1img")))
    assert found == {
        "goodput_split_vs_mono_text": 0.9,
        "goodput_split_vs_mono_1img": 0.9,
        "image_ttft_p50_split_vs_mono": 2.5,  # half of the times 200 and half 300 ms, to the quickest's 100
    }


def test_a_workload_with_an_objective_of_its_own_is_quoted_at_that() -> None:
    both = measured(contest("text"), contest("1img"))
    both.plan = replace(both.plan, own_ttft_ms={"1img": 250.0})  # the split's tail is 300 ms at every rate
    found = {row["workload"]: row for row in of(rows(both, PRICES), "summary", "split")}
    assert {name: row["ttft_objective_ms"] for name, row in found.items()} == {"text": 1000, "1img": 250}
    assert (found["1img"]["goodput_per_s"], found["text"]["goodput_per_s"]) == (0, pytest.approx(2.25))
    assert {"goodput_split_vs_mono_text", "goodput_split_vs_mono_1img_at_most"} <= headline(both).keys()


def test_what_was_not_measured_is_not_in_the_headline() -> None:
    alone = contest()
    del alone.sides["mono"], alone.sides["mono-x2"]
    assert headline(measured(alone)) == {}


def test_a_bound_says_so_in_its_name_and_what_is_not_told_is_left_out() -> None:
    def only(split: tuple[float, ...], mono: tuple[float, ...]) -> dict[str, float]:
        found = contest()
        del found.sides["mono-x2"]
        for name, itls_ms in (("split", split), ("mono", mono)):
            found.sides[name] = Side(name, [AT_ONCE], [ladder(100, *itls_ms)])
        return {name: value for name, value in headline(measured(found)).items() if "goodput" in name}

    assert only((100, 300, 900), (300, 900, 900)) == {"goodput_split_vs_mono_1img_at_least": 1.5}
    assert only((100, 100, 100), (100, 300, 900)) == {"goodput_split_vs_mono_1img_at_least": 2.0}
    assert only((300, 900, 900), (100, 300, 900)) == {"goodput_split_vs_mono_1img_at_most": 0.667}
    assert only((100, 100, 100), (100, 100, 100)) == {}
    assert only((900, 900, 900), (900, 900, 900)) == {}


def test_where_it_loses_is_listed_from_the_grid() -> None:
    series = rows(measured(contest()), PRICES)
    [lost] = of(series, "loses", "split")
    grid = {row["ttft_objective_ms"]: row for row in of(series, "grid", "split")}
    assert (grid[1000]["itl_200_ms"], grid[1000]["itl_1000_ms"]) == ("0.90", "both")
    assert "200 (0.90)" in lost["where"]
    assert "1000 (" not in lost["where"].replace("TTFT 1000", "")
    assert (lost["below_1"], lost["told"]) == (2, 2)


def test_it_loses_surely_where_all_of_the_interval_is_below_1() -> None:
    row = {"ttft_objective_ms": 1000.0, "itl_objective_ms": 200.0, "vs_best_mono_bound": "", "vs_best_mono_told": "0.9"}
    told = [row | {"vs_best_mono": 0.9, "vs_best_mono_high": high} for high in (0.95, 1.05)]
    lost = loses([*told, row | {"vs_best_mono": 0.9}, row | {"vs_best_mono": 1.1, "vs_best_mono_high": 1.2}])
    assert (lost["below_1"], lost["interval_below_1"], lost["bound_below_1"], lost["told"]) == (3, 1, 0, 4)


@pytest.mark.parametrize(
    ("interval", "starred", "wins"),
    [((0.8, 0.95), True, 0), ((0.8, 1.2), False, 0), ((1.05, 1.2), True, 1), ((0.8, 1.0), False, 0), (None, False, 0)],
)
def test_a_star_and_a_win_take_an_interval_on_one_side_of_1(
    interval: tuple[float, float] | None, starred: bool, wins: int
) -> None:
    row = {"ttft_objective_ms": 1000.0, "itl_objective_ms": 200.0, "vs_best_mono_bound": "", "vs_best_mono_told": "0.9"}
    row |= {"vs_best_mono": 0.9}
    row |= dict(zip(("vs_best_mono_low", "vs_best_mono_high"), interval, strict=True)) if interval else {}
    assert list(grids([row])) == [{"ttft_objective_ms": 1000.0, "itl_200_ms": "0.9*" if starred else "0.9"}]
    assert loses([row])["interval_above_1"] == wins


@pytest.mark.parametrize(
    ("bound", "value", "told", "below"),
    [("at most", 0.9, 1, 1), ("at most", 1.1, 0, 0), ("at least", 1.1, 1, 0), ("at least", 0.9, 0, 0)],
)
def test_a_bound_tells_only_on_its_own_side_of_1(bound: str, value: float, told: int, below: int) -> None:
    row = {"ttft_objective_ms": 1000.0, "itl_objective_ms": 200.0, "vs_best_mono_told": "some"}
    lost = loses([row | {"vs_best_mono_bound": bound, "vs_best_mono": value}])
    assert (lost["told"], lost["below_1"], lost["bound_below_1"]) == (told, below, below)


@pytest.mark.parametrize(("count", "tail"), [(7, "max of 7"), (10, "p90"), (19, "p90"), (20, "p95")])
def test_a_tail_is_told_as_far_as_its_samples_go(count: int, tail: str) -> None:
    assert tail_of([float(each) for each in range(count)]) == (tail, {7: 6, 10: 8, 19: 17, 20: 18}[count])


def test_times_to_first_token_are_those_of_images_at_the_lowest_rate() -> None:
    mixed = contest()
    light = {1.0: rung([*alike(2, 400, 100), *alike(1, 500, 100), *alike(9, 10, 100, "text")])}
    mixed.sides["split"].rounds = [ladder(9000, 1, 1, 1) | light]
    mixed.sides["mono"].rounds, mixed.sides["mono-x2"].rounds = [ladder(100, 1, 1, 1)], [ladder(100, 1, 1, 1)]
    [row] = of(rows(measured(mixed), PRICES), "summary", "split")
    assert (row["light_requests"], row["light_ttft_p50_ms"]) == (3, 400)
    assert (row["light_ttft_tail"], row["light_ttft_tail_ms"]) == ("max of 3", 500)
    assert row["light_ttft_p50_vs_mono"] == 4.0


def test_a_rate_has_the_figures_of_all_its_rounds() -> None:
    [row] = [row for row in of(rows(measured(contest()), PRICES), "rate", "split") if row["rate_per_s"] == 1.0]
    assert (row["requests"], row["completed"], row["share_of_capacity"]) == (6, 6, 0.25)
    assert (row["median_ttft_ms"], row["median_ttft_least_ms"], row["median_ttft_most_ms"]) == (250, 200, 300)
    assert (row["p95_due_to_first_token_ms"], row["p95_token_gap_ms"]) == (300, 100)
    # Of each round three requests that were due within two seconds, of which the last took 2.2 or 2.3 s.
    assert row["request_throughput"] == pytest.approx(6 / (4.2 + 4.3), abs=1e-4)


def test_goodput_is_told_over_the_whole_grid() -> None:
    found = of(rows(measured(contest()), PRICES), "goodput", "split")
    assert {(row["ttft_objective_ms"], row["itl_objective_ms"]) for row in found} == {
        (each.ttft_ms, each.itl_ms) for each in measured().plan.grid("1img")
    }
    assert (1000, 200) in {(row["ttft_objective_ms"], row["itl_objective_ms"]) for row in found}
    goodputs = [row["goodput_per_s"] for row in found if row["ttft_objective_ms"] == 1000]
    assert goodputs == sorted(goodputs)
    assert len(set(goodputs)) > 2


def test_tokens_per_dollar_come_from_the_table(tmp_path: Path) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text(
        "{currency: USD, silicon: {card: {per_hour: 2, source: made up}}, arrangements: {split: {card: 1}}}"
    )
    series = rows(measured(contest()), load_prices(table))
    [row] = of(series, "summary", "split")
    assert row["goodput_tokens_per_dollar"] == pytest.approx(2.25 * 21 * 3600 / 2)
    assert row["goodput_tokens_per_dollar_told"] == f"{2.25 * 21 * 3600 / 2:,.0f}"
    [mono] = of(series, "summary", "mono")
    assert "goodput_tokens_per_dollar" not in mono


def test_who_breaks_objectives_at_the_lowest_rate_has_a_goodput_below_that() -> None:
    found = contest()
    found.sides["split"].rounds = [ladder(2000, 100, 100, 100)] * 2
    [row] = of(rows(measured(found), PRICES), "summary", "split")
    assert (row["goodput_per_s"], row["goodput_told"]) == (0.0, "< 1.00")


def test_tokens_per_dollar_of_a_goodput_that_may_be_higher_are_a_bound(tmp_path: Path) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text(
        "{currency: USD, silicon: {card: {per_hour: 2, source: made up}}, arrangements: {split: {card: 1}}}"
    )
    found = contest()
    found.sides["split"].rounds = [ladder(100, 100, 100, 100)] * 2
    [row] = of(rows(measured(found), load_prices(table)), "summary", "split")
    assert row["goodput_tokens_per_dollar_told"] == f"≥ {3 * 21 * 3600 / 2:,.0f}"


def test_tables_and_plots_have_every_arrangement(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    series = rows(measured(contest("text"), contest("1img")), load_prices())
    printed = Console(file=io.StringIO(), width=150)
    for sheet in (*summaries(series), *ratio_grids(series, "split")):
        printed.print(*fitted(sheet, printed.width))
    said = printed.file.getvalue()  # type: ignore[attr-defined]
    assert said.count("mono-x2") == 4  # in a line of its own, and as the best, under either workload
    assert "0.90" in said
    assert "goodput of split to the best monolithic arrangement's" in said
    plot_curves(series, dict.fromkeys(("text", "1img"), OBJECTIVES), "made up", tmp_path / "folder" / "curves.svg")
    drawn = (tmp_path / "folder" / "curves.svg").read_text()
    assert len(drawn) > 10_000
