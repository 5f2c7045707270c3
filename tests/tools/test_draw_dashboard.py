"""The dashboard drawn without Grafana, from a Prometheus that is played."""

import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "chiasm" / "telemetry" / "grafana" / "dashboard.json"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("chiasm_draw", ROOT / "tools" / "draw_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "chiasm_draw", module)  # where its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


class Prometheus(HTTPServer):
    """Answers each range query with two series, one of them with gaps; refuses those with `refused` in them."""

    asked: list[dict[str, str]]
    refused = "nothing"


class Handler(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        query = {name: value for name, [value] in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append(query)
        start, step = float(query["start"]), float(query["step"])
        series = [
            {
                "metric": {"worker": worker},
                "values": [[start + place * step, value] for place, value in enumerate(values)],
            }
            for worker, values in (("decoder-0", ["1", "2", "1.5"]), ("decoder-1", ["NaN", "0.5"]))
        ]
        body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": series}}).encode()
        refused = self.server.refused in query["query"]
        self.send_response(400 if refused else 200)
        self.end_headers()
        self.wfile.write(b'{"status":"error","error":"parse error"}' if refused else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def draw(tool: ModuleType, prometheus: Prometheus, out: Path, *options: str) -> Result:
    address = f"http://127.0.0.1:{prometheus.server_port}"
    return CliRunner().invoke(tool.main, [address, str(out), "--minutes", "10", "--until", "1700000600", *options])


@pytest.mark.timeout(300)
def test_every_query_of_the_dashboard_is_asked_and_drawn(
    tool: ModuleType, prometheus: Prometheus, tmp_path: Path
) -> None:
    result = draw(tool, prometheus, tmp_path / "out.svg", "--pool", "decoder")
    assert result.exit_code == 0, result.output
    panels = [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]
    expected = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(prometheus.asked) == len(expected)
    for asked, query in zip(prometheus.asked, expected, strict=True):
        shown = query.replace("$pool", "decoder").replace("$worker", ".+").replace("$__rate_interval", "60s")
        assert asked == {"query": shown, "start": "1700000000.0", "end": "1700000600.0", "step": "2.5"}


@pytest.mark.timeout(300)
def test_the_picture_says_what_it_was_drawn_by(tool: ModuleType, prometheus: Prometheus, tmp_path: Path) -> None:
    import matplotlib

    board = json.loads(DASHBOARD.read_text())
    board["panels"] = board["panels"][:2]
    (tmp_path / "board.json").write_text(json.dumps(board))
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        result = draw(tool, prometheus, tmp_path / "out.svg", "--dashboard", str(tmp_path / "board.json"))
    assert result.exit_code == 0, result.output
    picture = (tmp_path / "out.svg").read_text()
    assert "drawn from the dashboard's JSON and its queries by tools/draw_dashboard.py, not by Grafana" in picture
    assert "2023-11-14 22:13:20 to 2023-11-14 22:23:20 UTC" in picture
    assert board["panels"][1]["title"] in picture


def test_a_refused_query_is_named(tool: ModuleType, prometheus: Prometheus, tmp_path: Path) -> None:
    prometheus.refused = "chiasm_time_to_first_token_seconds"
    result = draw(tool, prometheus, tmp_path / "out.svg")
    assert result.exit_code == 1
    assert "Prometheus refuses histogram_quantile" in result.output
    assert "parse error" in result.output


def test_an_address_without_prometheus_is_named(tool: ModuleType, tmp_path: Path) -> None:
    result = CliRunner().invoke(tool.main, ["http://127.0.0.1:9", str(tmp_path / "out.svg")])
    assert result.exit_code == 1
    assert "no answer from Prometheus at http://127.0.0.1:9" in result.output


def test_a_panel_that_it_cannot_draw_is_refused(tool: ModuleType) -> None:
    with pytest.raises(ValueError, match="no panels of type heatmap"):
        tool.panels_of({"panels": [{"type": "row"}, {"type": "heatmap"}]})


def test_a_variable_that_it_does_not_know_is_refused(tool: ModuleType) -> None:
    assert tool.substituted('a{b="$pool", c="${pool}"}', {"pool": "x"}) == 'a{b="x", c="x"}'
    with pytest.raises(KeyError):
        tool.substituted("$other", {"pool": "x"})
