"""The Grafana dashboard: well-formed, laid out without overlaps, of metrics that there are."""

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from metric_names import DASHBOARD, asked_for, known

BOARD = json.loads(DASHBOARD.read_text())
PANELS = BOARD["panels"]
SHOWING = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in SHOWING for target in panel["targets"]]
VARIABLES = {one["name"]: one for one in BOARD["templating"]["list"]}


def datasources(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "datasource":
                yield value
            yield from datasources(value)
    elif isinstance(node, list):
        for value in node:
            yield from datasources(value)


def test_it_can_be_imported_again_and_again() -> None:
    assert BOARD["id"] is None
    assert BOARD["uid"] == "chiasm"
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_its_rows_are_what_a_cluster_is_looked_at_for() -> None:
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == ["The objective", "The phases", "The pools", "Transfers", "Stealing", "Un-splitting"]


def test_panels_lie_in_the_grid_and_on_no_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert cells
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_datasource_is_the_variable() -> None:
    found = list(datasources(BOARD))
    assert len(found) > len(SHOWING) + len(QUERIES)
    assert all(one == {"type": "prometheus", "uid": "${datasource}"} for one in found)
    assert VARIABLES["datasource"]["query"] == "prometheus"


@pytest.mark.parametrize("panel", SHOWING, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_asks_for_what_there_is(panel: dict[str, Any]) -> None:
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        asked = asked_for(target["expr"])
        assert asked
        assert asked <= known()
        assert target["legendFormat"]
        assert set(re.findall(r"\$\{?(\w+)", target["expr"])) <= {*VARIABLES, "__rate_interval"}


def test_of_vllms_metrics_only_our_engines_are_shown() -> None:
    """Others may be scraped by the same Prometheus; they have no label `pool`, which the variable wants."""
    for query in QUERIES:
        for selected in re.findall(r"vllm:\w+(\{[^}]*\})?", query):
            assert 'pool=~"$pool"' in selected, query
    assert VARIABLES["pool"]["allValue"] == ".+"


def test_durations_are_of_windows_that_fit_the_scrapes() -> None:
    for query in QUERIES:
        assert set(re.findall(r"\[([^]]*)\]", query)) <= {"$__rate_interval"}, query


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(QUERIES)
    ]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", str(tmp_path / "queries.yaml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
