import json
from pathlib import Path

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
