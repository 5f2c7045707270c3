"""The command on an endpoint that plays an engine: what it asks, and what it writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prompt_stalled_engine import PlayedEngine, playing

from bench.cli import bench

QUICK = ["itl", "--quick", "--every", "0.8"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench, arguments, catch_exceptions=False)


def series(report: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [row for row in report["series"] if row["what"] == what]


@pytest.fixture(autouse=True)
def short_lead_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("plan", "traffic"):
        monkeypatch.setattr(f"bench.itl.{module}.LEAD_IN_S", 0.5)


@pytest.mark.timeout(180)  # on a busy machine matplotlib alone takes half a minute
def test_an_endpoint_is_measured_reported_drawn_and_not_measured_again(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file, page, plot = tmp_path / "itl.json", tmp_path / "itl.html", tmp_path / "plot" / "itl.png"
    engine = PlayedEngine()
    with playing(engine) as url:
        options = [*QUICK, "--endpoint", url, "--resume", str(tmp_path / "journal"), "--json", str(file)]
        result = run(*options, "--html", str(page), "--plot", str(plot))
        assert result.exit_code == 0, result.output
    report = json.loads(file.read_text())
    assert (report["name"], report["command"]) == ("itl", f"chiasm bench itl --quick --endpoint {url} --every 0.8")
    assert {"bystander_slope_image_vs_text_tokens", "carrier_slope_ms_per_1k"} <= set(report["headline"])
    assert report["setting"] == {"prefill_chunks": {url: []}}
    points = {row["carriers"]: row for row in series(report, "point")}
    assert set(points) == {
        "nothing",
        "live: 1 of 336 x 336",
        "encoded: 1 of 336 x 336",
        "text: 1 of 336 x 336",
        "burst of 2, nothing",
        "burst of 2, live: 1 of 336 x 336",
    }
    assert {row["tokens"] for row in points.values()} == {0, 146}
    sizes = {body["max_tokens"] for body in engine.asked}
    assert {1, 16, 24, 48} < sizes  # the warm-up, carriers, bursts, and those that pace; the rest are bystanders
    told = page.read_text()
    assert "<svg" in told
    assert "played" not in told or url in told
    for needed_from_elsewhere in ("<link", "<script", " src=", "url(http"):
        assert needed_from_elsewhere not in told
    assert plot.stat().st_size > 1000
    assert plot.with_suffix(".svg").stat().st_size > 1000
    again = run(*options)  # though nobody answers any more
    assert again.exit_code == 0, again.output
    assert json.loads(file.read_text())["headline"] == report["headline"]


def test_a_journal_of_other_times_is_refused(tmp_path: Path) -> None:
    with playing(PlayedEngine(refuse="no")) as url:
        options = ["--endpoint", url, "--resume", str(tmp_path)]
        assert "warm-up failed" in run(*QUICK, *options).output
        refused = run("itl", "--quick", "--every", "0.7", *options)
    assert refused.exit_code == 1
    assert "other settings: drives" in refused.output


def test_where_every_point_is_overloaded_that_is_said() -> None:
    with playing(PlayedEngine(stall_s=0.005)) as url:  # a picture takes 0.7 s
        result = run("itl", "--quick", "--every", "0.15", "--endpoint", url)
    assert "overloaded: no first token within 0.15 s" in result.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--endpoint", "http://127.0.0.1:9", "--topology", "split"], "leave --topology and --towers out"),
        (["--towers", "--every", "3"], "leave --topology and --every out"),
        (["--topology", "elsewhere"], "is not one of"),
        (["--endpoint", "http://127.0.0.1:9", "--quick"], "no answer from http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_asked_is_told(options: list[str], message: str) -> None:
    result = run("itl", *options)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
