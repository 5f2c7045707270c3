"""What the command line learns of machines, from a gateway that is played."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from chiasm.client import EndpointError
from chiasm.image_tokens import ImageSizes
from chiasm.nouns import WorkerId
from chiasm.profile.roofline import judged_machines, roofline
from chiasm.telemetry.live.machine import Machine, Machines
from chiasm.telemetry.records import EngineRecords, Step
from chiasm.telemetry.signature.peaks import Best, Conditions, Peaks

BEST = Best(Peaks(1e12, 1e10, 1.2e10), {})
CONFIG = json.loads((Path(__file__).parents[2] / "chiasm/models/pupil/config.json").read_text())
MACHINE = Machine(Conditions("cpu", "A Processor", 1, "float32", "2"), None, 1, False, True, 4, 4, 99, 16, None, CONFIG)
KNOWN = msgspec.structs.replace(MACHINE, best=BEST)


class Gateway:
    """Its answers, and whose peaks were asked for."""

    def __init__(self) -> None:
        self.measured: list[str] = []
        self.busy: set[str] = set()
        self.machines: dict[str, Machine] = {}

    def get(self) -> tuple[int, Any]:
        sizes = ImageSizes(784, (1, 16_384), None)
        machines = {WorkerId(name): machine for name, machine in self.machines.items()}
        return 200, Machines(sizes, machines, {WorkerId("decoder-9"): "it is gone"})

    def post(self, path: str) -> tuple[int, Any]:
        worker = path.split("/")[4]
        self.measured.append(worker)
        return (409, {"error": {"message": "it has work"}}) if worker in self.busy else (200, BEST)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def endpoint(gateway: Gateway) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*gateway.get())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(*gateway.post(self.path))

        def _answer(self, status: int, content: Any) -> None:
            body = msgspec.json.encode(content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def console() -> Iterator[Console]:
    with open("/dev/null", "w") as nowhere:
        yield Console(width=200, record=True, file=nowhere)


def test_peaks_are_measured_where_they_are_not_known(gateway: Gateway, endpoint: str, console: Console) -> None:
    gateway.machines = {"decoder-0": KNOWN, "decoder-1": MACHINE, "decoder-2": MACHINE}
    gateway.busy = {"decoder-2"}
    assert judged_machines(endpoint, None, console) == {"decoder-0": KNOWN, "decoder-1": KNOWN}
    assert gateway.measured == ["decoder-1", "decoder-2"]
    said = console.export_text()
    assert "decoder-2 is left out" in said
    assert "it has work" in said
    assert "decoder-9 is left out: it does not tell what it runs on: it is gone" in said


def test_a_gateway_that_is_not_there_is_named(console: Console) -> None:
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9"):
        judged_machines("http://127.0.0.1:9", None, console)


def test_engines_without_peaks_or_steps_are_no_matter(console: Console, tmp_path: Path) -> None:
    steps = tuple(Step(float(at), 0.0, 0, 0, 2, 2, 0, 0, 2, 0, 0.1) for at in range(3))
    records = {WorkerId(name): EngineRecords(9.0, steps=steps) for name in ("decoder-0", "decoder-1")}
    machines = {WorkerId("decoder-0"): KNOWN, WorkerId("decoder-3"): KNOWN}
    [row] = roofline(records, machines, None, console)
    assert (row["phase"], row["workers"], row["rounds"]) == ("decode", "decoder-0", 2)
    with pytest.raises(ValueError, match="Send requests"):
        roofline({}, machines, tmp_path / "none.svg", console)
    assert not (tmp_path / "none.svg").exists()
