"""How an engine is told to pause and to resume: a server in its place, started and guarded as an engine is."""

import sys
from collections.abc import Iterator

import pytest

import chiasm.engine
from chiasm.engine import Engine, EngineFailed, EngineSpec
from chiasm.nouns import Role

pytestmark = pytest.mark.slow

SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        known = self.headers["Authorization"] == "Bearer secret"
        print("told:", self.path, known, flush=True)
        if "resume" in self.path:
            time.sleep(600)
        self.send_response(200 if known else 401)
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Stubborn(EngineSpec):
    """It pauses, and never resumes."""

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-c", SERVER, str(port)]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = Engine(Stubborn("e", Role.TEXT, "m", "m", getattr(request, "param", "secret")), log=lambda _line: None)
    try:
        engine.wait_ready(30)
        yield engine
    finally:
        engine.stop()


def test_an_engine_is_told_with_the_clusters_token(engine: Engine) -> None:
    engine.hold(True, since=0)


@pytest.mark.parametrize("engine", ["wrong"], indirect=True)
def test_an_engine_that_refuses_has_failed(engine: Engine) -> None:
    with pytest.raises(EngineFailed, match="e did not pause when told: HTTP Error 401"):
        engine.hold(True, since=0)


def test_an_engine_that_does_not_answer_has_failed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chiasm.engine, "HOLD_TIMEOUT_S", 0.5)
    with pytest.raises(EngineFailed, match=r"e did not resume when told: timed out; the last lines of its log:"):
        engine.hold(False, since=0)
