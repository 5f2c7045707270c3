"""What a gateway tells of the machines that its engines run on."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from gateway_fakes import TOKEN, Cluster

from chiasm.messages import WorkerStatus
from chiasm.nouns import Role, WorkerId
from chiasm.telemetry.live.machine import Machine, Machines
from chiasm.telemetry.signature.peaks import Best, Conditions, Peaks

MACHINE = Machine(
    Conditions("cpu", "A Processor", 2, "float32", "2.13.0"),
    None,
    1,
    True,
    False,
    4,
    4,
    0,
    16,
    None,
    {"model_type": "x"},
)
BEST = Best(Peaks(1e11, 1e10, 1.2e10), {"flops_per_s": "monday"})


class Engine:
    """As much of an engine as is asked here, and what it answers."""

    def __init__(self) -> None:
        self.machine: Any = MACHINE
        self.peaks: tuple[int, Any] = (200, BEST)

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        status, content = (200, self.machine) if request.method == "GET" else self.peaks
        return web.Response(status=status, body=msgspec.json.encode(content))


@pytest.fixture
async def engine(cluster: Cluster) -> AsyncIterator[Engine]:
    engine = Engine()
    app = web.Application()
    app.add_routes([web.get("/v1/chiasm/machine", engine.answer), web.post("/v1/chiasm/peaks", engine.answer)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    cluster.scheduler.workers = (_registered("encoder-0", url), _registered("decoder-0", "http://127.0.0.1:1"))
    yield engine
    await runner.cleanup()


def _registered(name: str, url: str) -> WorkerStatus:
    return WorkerStatus(WorkerId(name), Role.ENCODER, "node", url, 0, 0, 1, 0, 1.0, 0)


async def machines(cluster: Cluster) -> Machines:
    async with cluster.client.get("/v1/chiasm/machines") as answer:
        assert answer.status == 200
        return msgspec.json.decode(await answer.read(), type=Machines)


async def peaks(cluster: Cluster, worker: str) -> tuple[int, Any]:
    async with cluster.client.post(f"/v1/chiasm/machines/{worker}/peaks") as answer:
        return answer.status, await answer.json()


async def test_all_engines_are_asked_and_who_is_silent_is_named(cluster: Cluster, engine: Engine) -> None:
    found = await machines(cluster)
    assert found.machines == {"encoder-0": MACHINE}
    assert found.silent.keys() == {"decoder-0"}
    assert found.images.estimate(1008, 1008) == 1296


async def test_an_answer_that_cannot_be_read_counts_as_none(cluster: Cluster, engine: Engine) -> None:
    engine.machine = {"conditions": 7}
    assert (await machines(cluster)).silent.keys() == {"encoder-0", "decoder-0"}


async def test_peaks_are_measured_where_they_are_asked_for(cluster: Cluster, engine: Engine) -> None:
    status, answer = await peaks(cluster, "encoder-0")
    assert (status, msgspec.convert(answer, Best)) == (200, BEST)


@pytest.mark.parametrize(
    ("worker", "told", "status", "said"),
    [
        ("encoder-0", (409, {"reason": "the engine has work"}), 409, "the engine has work"),
        ("encoder-0", (500, {}), 502, "HTTP 500"),
        ("encoder-0", (409, 7), 502, "encoder-0"),
        ("decoder-0", (200, BEST), 502, "no connection"),
        ("decoder-7", (200, BEST), 404, "decoder-7"),
    ],
)
async def test_why_there_are_no_peaks_is_told(
    cluster: Cluster, engine: Engine, worker: str, told: tuple[int, Any], status: int, said: str
) -> None:
    engine.peaks = told
    answered, answer = await peaks(cluster, worker)
    assert answered == status
    assert said in answer["error"]["message"]
