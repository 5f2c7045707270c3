"""The benchmark of the scheduling core, on clusters of a few workers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import bench.scheduler
from bench.scheduler import Played, scheduler
from chiasm.nouns import RequestId


def test_a_played_cluster_keeps_its_queue_and_its_books() -> None:
    played = Played(workers=8, queued=50)
    played.fill()
    assert played.core.status(RequestId(""), played.now).withheld >= 50
    before = played.core.status(RequestId(""), played.now).counters
    measured = played.play(200)
    assert len(measured.elapsed_ns) >= 200
    assert all(nanoseconds > 0 for nanoseconds in measured.elapsed_ns)
    assert measured.mean_ns > 0
    played.core.check_integrity()
    status = played.core.status(RequestId(""), played.now)
    assert 50 <= status.withheld <= 150
    assert status.counters["refused"] == status.counters["stale"] == 0
    ended = {name: status.counters[name] - before[name] for name in ("submitted", "encodes", "decodes", "done")}
    assert ended["submitted"] == ended["decodes"] == ended["done"] == 2 * ended["encodes"]


def test_the_report_has_the_headline_and_every_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench.scheduler, "WORKERS", (4, 8))
    monkeypatch.setattr(bench.scheduler, "QUICK_QUEUES", (10, 20))
    monkeypatch.setattr(bench.scheduler, "QUICK_EVENTS", 50)
    monkeypatch.setattr(bench.scheduler, "HEADLINE", (8, 20))
    files = ["--json", str(tmp_path / "scheduler.json"), "--plot", str(tmp_path / "scheduler.svg")]
    result = CliRunner().invoke(scheduler, ["--quick", *files])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "scheduler.json").read_text())
    [point] = [row for row in report["series"] if (row["workers"], row["queued"]) == (8, 20)]
    assert report["headline"] == {
        "decisions_per_s_1000_workers": point["decisions_per_s"],
        "decision_p99_ms_1000_workers": point["p99_ms"],
    }
    assert len(report["series"]) == 4
    assert (tmp_path / "scheduler.svg").stat().st_size > 1000
