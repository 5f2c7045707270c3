"""The benchmark of placements: what follows from its answers, and its report."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from picture_endpoint import PictureEndpoint, running

import bench.placement
from bench.picture_traffic import Answered
from bench.placement import Setting, placement
from bench.placement_figures import HOUSE, Capacity, Turns, headline, points


def answers(*ttft_s: float, encoder: str = "encoder-0") -> list[Answered]:
    return [Answered(each, 1.0, encoder, 100) for each in ttft_s]


CAPACITY = Capacity(per_s=8.0, fast_tokens_per_s=2000.0, slow_tokens_per_s=1000.0)
TURNS = Turns(
    CAPACITY,
    share=0.5,
    rounds={
        HOUSE: [answers(0.1, 0.2), answers(0.1, 0.1) + answers(0.3, encoder="encoder-1")],
        "round robin": [answers(0.1, 0.4), answers(0.2, 0.2, 1.2)],
    },
)


def test_no_more_comes_than_half_of_which_the_slow_encoder_can_do() -> None:
    capacity = Capacity(per_s=10.0, fast_tokens_per_s=3000.0, slow_tokens_per_s=1000.0)
    assert capacity.speed_ratio == 3.0
    assert capacity.halves == 0.5  # 5 a second, and 2.5 for each: a quarter of all that both can do
    assert Capacity(10.0, 1000.0, 1000.0).halves == 1.0


def test_a_point_has_all_rounds_together_and_what_the_house_needs_of_its_time() -> None:
    series = points(TURNS)
    [house] = [point for point in series if (point["policy"], point["round"]) == (HOUSE, "all")]
    [other] = [point for point in series if (point["policy"], point["round"]) == ("round robin", "all")]
    assert (house["encoder_speed_ratio"], house["pictures_per_s"]) == (2.0, 4.0)
    assert house["answers"] == other["answers"] == 5
    assert house["pictures_to_the_fast_encoder"] == 0.8
    assert "p95_ratio" not in house
    assert other["p95_ratio"] == 0.25  # 0.3 s and 1.2 s
    assert (other["p95_ratio_least"], other["p95_ratio_most"]) == (0.25, 0.5)
    assert [point["round"] for point in series] == ["all", 1, 2, "all", 1, 2]


@pytest.mark.parametrize(("counted", "percent"), [(500, 99), (499, 95)])
def test_the_99th_percentile_is_told_of_a_thousand_answers_and_not_of_fewer(counted: int, percent: int) -> None:
    rounds = [answers(*[0.1] * counted)] * 2
    first = points(Turns(CAPACITY, 0.5, {HOUSE: rounds, "random": rounds}))
    other = points(Turns(CAPACITY, 0.3, {HOUSE: [answers(0.1)], "random": [answers(0.2)]}))
    figures = headline([*first, *other])
    assert figures == {
        "encoder_speed_ratio": 2.0,
        "load": 0.5,
        "p50_ttft_vs_random": 1.0,
        f"p{percent}_ttft_vs_random": 1.0,
    }


def test_policies_take_turns_and_the_report_has_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    scheduled: list[str] = []

    class Cluster:
        def __init__(self, url: str) -> None:
            self.url = url

        @contextmanager
        def unequal(self) -> Iterator[None]:
            scheduled.append("unequal")
            yield
            scheduled.append("equal")

        def schedule_by(self, encoders: Any) -> None:
            scheduled.append(type(encoders).__name__)

    @contextmanager
    def cluster(*_: Any) -> Iterator[Cluster]:
        with running(PictureEndpoint()) as endpoint:
            yield Cluster(endpoint.url)

    monkeypatch.setattr(bench.placement, "two_encoders", cluster)
    monkeypatch.setattr(bench.placement, "SIDES", (28, 56))
    monkeypatch.setattr(bench.placement, "QUICK", (Setting(True, 0.7, 2, 3), Setting(False, 0.3, 1, 2)))
    monkeypatch.setattr(bench.placement, "UNCOUNTED", 2)
    monkeypatch.setattr(bench.placement, "QUICK_MEASURED", 6)
    files = ["--json", str(tmp_path / "placement.json"), "--plot", str(tmp_path / "placement.svg")]
    result = CliRunner().invoke(placement, ["--quick", *files])
    assert result.exit_code == 0, result.output
    in_turn = ["FinishIndex", "RoundRobin", "Random", "LeastCount"]
    assert scheduled == ["unequal", "FinishIndex", *in_turn * 2, "equal", "FinishIndex", *in_turn]
    report = json.loads((tmp_path / "placement.json").read_text())
    assert report["headline"].keys() == {
        "encoder_speed_ratio",
        "load",
        *(f"{p}_ttft_vs_{rule}" for p in ("p50", "p95") for rule in ("round_robin", "random", "least_count")),
    }
    assert len(report["series"]) == 4 * (1 + 2) + 4 * (1 + 1)
    assert {point["answers"] for point in report["series"] if point["round"] == "all"} == {6, 2}
    assert (tmp_path / "placement.svg").stat().st_size > 1000
