"""The command on an endpoint that plays an engine: what it asks, and what it writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from prompt_stalled_engine import PlayedEngine, playing

from bench.cli import bench
from bench.itl.findings import IN_BURSTS, STALL
from bench.itl.plan import BYSTANDER_TOKENS, FULL

pytestmark = pytest.mark.slow

QUICK = ["itl", "--quick"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench, arguments, catch_exceptions=False)


def series(report: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [row for row in report["series"] if row["what"] == what]


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("plan", "traffic", "run"):
        monkeypatch.setattr(f"bench.itl.{module}.LEAD_IN_S", 0.3)
    monkeypatch.setattr("bench.itl.plan.LEAST_SLOT_S", 0.6)


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
    assert (report["name"], report["command"]) == ("itl", f"chiasm bench itl --quick --endpoint {url}")
    assert report["headline"] == {}  # one block is too few
    assert "Nothing of this can be quoted: that takes 5 blocks" in result.output
    [side] = series(report, "side")
    assert (side["side"], side["prefill_chunk_tokens"]) == (url, [])
    assert side["slot_s_loads"] >= 0.6
    assert {row["of"] for row in series(report, "slope")} >= {STALL, IN_BURSTS}
    assert all(row["carriers"] != "nothing" or row["fault"] is None for row in series(report, "slot"))
    points = {row["carriers"]: row for row in series(report, "point")}
    assert set(points) == {
        "nothing",
        "live: 1 of 224 x 224",
        "encoded: 1 of 224 x 224",
        "text: 1 of 224 x 224",
        "burst of 2, nothing",
        "burst of 2, live: 1 of 224 x 224",
    }
    assert {row["tokens"] for row in points.values()} == {0, 66}
    sizes = {body["max_tokens"] for body in engine.asked}
    assert sizes >= {1, 16, BYSTANDER_TOKENS // 4, BYSTANDER_TOKENS}  # the warm-up, carriers, bystanders
    told = page.read_text()
    assert "<svg" in told
    assert f"always as many: as one has had its {BYSTANDER_TOKENS} tokens" in told
    for needed_from_elsewhere in ("<link", "<script", " src=", "url(http"):
        assert needed_from_elsewhere not in told
    assert plot.stat().st_size > 1000
    assert plot.with_suffix(".svg").stat().st_size > 1000
    again = run(*options)  # though nobody answers any more
    assert again.exit_code == 0, again.output
    assert json.loads(file.read_text())["series"] == report["series"]


def test_a_journal_of_another_plan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with playing(PlayedEngine(refuse="no")) as url:
        options = ["--endpoint", url, "--resume", str(tmp_path)]
        assert "warm-up failed" in run(*QUICK, *options).output
        monkeypatch.setattr("bench.itl.command.QUICK", FULL)
        refused = run(*QUICK, *options)
    assert refused.exit_code == 1
    assert "other settings: plan" in refused.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--endpoint", "http://127.0.0.1:9", "--topology", "split"], "leave --topology and --towers out"),
        (["--towers", "--topology", "split"], "leave --topology out"),
        (["--topology", "elsewhere"], "is not one of"),
        (["--endpoint", "http://127.0.0.1:9", "--quick"], "no answer from http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_asked_is_told(options: list[str], message: str) -> None:
    result = run("itl", *options)
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
