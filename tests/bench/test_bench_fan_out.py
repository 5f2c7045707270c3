"""The benchmark of fan-out: what follows from its answers, and its report. The cluster is played."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from picture_endpoint import PictureEndpoint, running

import bench.fan_out
from bench.fan_out import ALONE, SPREAD, comparison, fan_out, headline


def row(number: int, by: str, images: int, ttft_ms: float, on_the_first: int) -> dict[str, Any]:
    return {
        "round": number,
        "by": by,
        "images": images,
        "ttft_ms": ttft_ms,
        "on_the_first": on_the_first,
        "placed": images,
    }


def test_means_are_compared_over_rounds_and_say_how_even_the_images_were_spread() -> None:
    series = [row(number, SPREAD, 4, 600.0 + number, 2) for number in (3, 1, 2)]
    series += [row(number, ALONE, 4, 1000.0 + number, 4) for number in (1, 2, 3)]
    [found] = comparison(series)
    assert (found["rounds"], found["two_ms"], found["one_ms"], found["ratio"]) == (3, 602.0, 1002.0, 0.601)
    # Each round's own pair is compared: both rise by one a round, and so the interval is narrow.
    assert found["high"] - found["low"] < 0.003
    assert found["share_of_the_first"] == 0.5
    assert headline([found]) == {"image_ttft_two_vs_one_encoder_4img": 0.601}


def test_of_fewer_than_three_rounds_no_interval_is_told() -> None:
    [found] = comparison([row(1, SPREAD, 1, 500.0, 1), row(1, ALONE, 1, 500.0, 1)])
    assert "low" not in found
    assert found["ratio"] == 1.0


@pytest.mark.slow
def test_both_ways_take_turns_on_encoders_of_half_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduled: list[str] = []

    class Cluster:
        def __init__(self, url: str) -> None:
            self.url = url

        @contextmanager
        def halves(self) -> Iterator[None]:
            scheduled.append("halves")
            yield
            scheduled.append("whole")

        def schedule_by(self, encoders: Any) -> None:
            scheduled.append(type(encoders).__name__)

    @contextmanager
    def cluster(_config: Any, _console: Any, encoding: str, decoding: str) -> Iterator[Cluster]:
        assert encoding != decoding
        with running(endpoint):
            yield Cluster(endpoint.url)

    endpoint = PictureEndpoint(busy_s=0.05)  # far above what times of nothing differ by: then no ratio can be told
    monkeypatch.setattr(bench.fan_out, "two_encoders", cluster)
    monkeypatch.setattr(bench.fan_out, "_config", lambda: None)
    monkeypatch.setattr(bench.fan_out, "first_two_cores", lambda: ("0", "1"))
    monkeypatch.setattr(bench.fan_out, "ROUNDS", 3)
    result = CliRunner().invoke(fan_out, ["--json", str(tmp_path / "fan_out.json")])
    assert result.exit_code == 0, result.output
    assert scheduled == ["halves", "FinishIndex", "Only", "Only", "FinishIndex", "FinishIndex", "Only", "whole"]
    assert endpoint.pictures == [(224, 224)] * 3 * 2 * (1 + 4)  # of each request the first
    report = json.loads((tmp_path / "fan_out.json").read_text())
    assert report["headline"].keys() == {f"image_ttft_two_vs_one_encoder_{images}img" for images in (1, 2, 4, 8)}
    assert [one["round"] for one in report["series"]] == ["all"] * 4 + [1] * 8 + [2] * 8 + [3] * 8
    assert "images on the first of two" in result.output
