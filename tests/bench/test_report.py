import json
import subprocess
from pathlib import Path

import pytest

from bench import report as reporting
from bench.report import write_report


def test_a_report_says_what_was_measured_and_where(tmp_path: Path) -> None:
    path = tmp_path / "wire.json"
    write_report(path, name="wire", command="chiasm bench wire", headline={"a": 1.5}, series=[{"b": 2}], seeds=[3])
    report = json.loads(path.read_text())
    assert list(report) == ["name", "commit", "machine", "versions", "seeds", "command", "headline", "series"]
    assert (report["name"], report["command"], report["seeds"]) == ("wire", "chiasm bench wire", [3])
    assert (report["headline"], report["series"]) == ({"a": 1.5}, [{"b": 2}])
    assert report["commit"]
    assert report["machine"]["cores"] > 0
    assert report["machine"]["memory_bytes"] > 0
    assert {"python", "chiasm", "pyzmq"} <= report["versions"].keys()


def test_what_another_commit_had_measured_is_told_as_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "serve.json"
    monkeypatch.setenv("CHIASM_COMMIT", "two")
    for measured_at, told in (("one", ("one", "two")), ("two", ("two", None))):
        write_report(path, name="serve", command="", headline={}, series=[], measured_at=measured_at)
        report = json.loads(path.read_text())
        assert (report["commit"], report.get("figures_commit")) == told


@pytest.mark.parametrize(("changed", "dirty"), [("bench/results/wire.json", False), ("bench/wire.py", True)])
def test_a_commit_is_dirty_if_its_code_was_changed_and_not_if_its_results_were(
    changed: str, dirty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        named = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(
            ["git", *named, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=30
        ).stdout.strip()

    file = tmp_path / changed
    file.parent.mkdir(parents=True)
    file.write_text("before")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "a")
    monkeypatch.setattr(reporting, "ROOT", tmp_path)
    monkeypatch.delenv("CHIASM_COMMIT", raising=False)
    file.write_text("after")

    assert reporting.commit() == git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
