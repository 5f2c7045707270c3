"""What the engines remember, as the gateway gathers it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from gateway_fakes import PATIENCE_S, TOKEN, Cluster, FakeEngine, answers, running

from chiasm.gateway.upstream import Upstream
from chiasm.gateway.views import collecting, routes
from chiasm.gateway.views.collecting import cluster_records, collect
from chiasm.messages import WorkerStatus
from chiasm.nouns import RequestId, Role, WorkerId
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.records import EngineCall, EngineRecords
from chiasm.telemetry.timelines.collected import ClusterRecords, WorkerRecords

CALL = EngineCall("r & s", 1.0, 1.1, 1.2, 1.3, 1.4, 9, 2, 7, 0, "stop")


def status_of(engine: FakeEngine, name: str = "decoder-0", role: Role = Role.DECODER) -> WorkerStatus:
    return WorkerStatus(WorkerId(name), role, "node-a", engine.url, 0, 0, 8, 4096, 1.0, 0)


def says(content: bytes, status: int = 200) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def say(_request: web.Request) -> web.Response:
        return web.Response(body=content, status=status)

    return say


def is_ahead(seconds: float) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def say(_request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(EngineRecords(time.time() + seconds)))

    return say


async def never(_request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with running(engine := FakeEngine(answers)):
        yield engine


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(TOKEN) as upstream:
        yield upstream


async def ask(upstream: Upstream, *workers: WorkerStatus, **question: Any) -> tuple[WorkerRecords, ...]:
    return await collect(upstream, workers, question or {"since": 5.0}, PATIENCE_S)


async def test_an_engine_tells_what_it_remembers(engine: FakeEngine, upstream: Upstream) -> None:
    engine.remembered = [CALL]
    [heard] = await ask(upstream, status_of(engine), call="r & s")
    assert engine.records_asked == ["r & s"]
    assert (heard.worker, heard.role, heard.node, heard.failure) == ("decoder-0", Role.DECODER, "node-a", "")
    assert heard.records is not None
    assert heard.records.calls == (CALL,)


async def test_a_clock_that_is_ahead_is_found_out_by_the_answer(engine: FakeEngine, upstream: Upstream) -> None:
    engine.tells = is_ahead(60.0)
    asked = time.time()
    [heard] = await ask(upstream, status_of(engine))
    took = time.time() - asked
    assert heard.clock is not None
    assert abs(heard.clock.seconds - 60.0) <= took
    assert heard.clock.uncertainty <= took


async def test_the_same_clock_is_not_corrected(engine: FakeEngine, upstream: Upstream) -> None:
    [heard] = await ask(upstream, status_of(engine))
    assert heard.clock is not None
    assert heard.clock.seconds == 0.0  # though question and answer never take equally long


@pytest.mark.parametrize(
    ("records", "failure"),
    [
        (b"not json", "malformed"),
        (b'{"steps": []}', "missing required field `now`"),
        (b'{"now": 1.0, "steps": [[1]]}', "Expected `array`"),
    ],
)
async def test_nonsense_is_named(engine: FakeEngine, upstream: Upstream, records: bytes, failure: str) -> None:
    engine.tells = says(records)
    [heard] = await ask(upstream, status_of(engine))
    assert heard.records is None
    assert failure in heard.failure


async def test_who_is_gone_or_says_no_is_named_and_the_others_are_heard(engine: FakeEngine, upstream: Upstream) -> None:
    refusing, gone = FakeEngine(answers, tells=says(b"", status=404)), FakeEngine(answers)
    async with running(gone):
        pass
    async with running(refusing):
        heard = await ask(upstream, *map(status_of, (gone, engine, refusing)))
    assert "no connection" in heard[0].failure
    assert heard[1].records is not None
    assert "HTTP 404" in heard[2].failure


async def test_who_takes_too_long_is_named(engine: FakeEngine, upstream: Upstream) -> None:
    engine.tells = never
    [heard] = await collect(upstream, [status_of(engine)], {"since": 5.0}, 0.05)
    assert "no answer" in heard.failure
    assert "within 0.05 s" in heard.failure


async def test_answers_are_bounded_together(
    engine: FakeEngine, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.tells = says(content := msgspec.json.encode(EngineRecords(5.0, calls=(CALL,) * 100)))
    monkeypatch.setattr(collecting, "MAX_COLLECTED_BYTES", int(1.5 * len(content)))
    [alone] = await ask(upstream, status_of(engine))
    assert alone.records is not None
    for heard in await ask(upstream, status_of(engine), status_of(engine)):
        assert "more than" in heard.failure
        assert "fewer seconds" in heard.failure


async def test_requests_that_go_on_meanwhile_are_told_as_they_were(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, assemble_all = Marks(RequestId("r")), collecting.assemble_all
    request.submitted((), streams=True)
    request.decode_posted(WorkerId("decoder-0"), Role.DECODER, ())

    def while_it_goes_on(requests: list[Marks], *more: Any) -> Any:
        [told] = requests
        request.first_token()
        request.decode_failed("lost", 3)
        request.decode_posted(WorkerId("decoder-1"), Role.DECODER, ())
        assert [(decode.worker, decode.first_token_at) for decode in told.decodes] == [("decoder-0", None)]
        return assemble_all(requests, *more)

    monkeypatch.setattr(collecting, "assemble_all", while_it_goes_on)
    [timeline] = (await cluster_records(upstream, (), [request], 0.0, 0.0)).timelines
    assert {span.worker for span in timeline.spans} <= {"decoder-0", None}
    assert len(request.decodes) == 2


async def test_the_route_asks_every_registered_worker(cluster: Cluster) -> None:
    encoder, decoder = cluster.encoders[0], cluster.decoders[0]
    cluster.scheduler.workers = (status_of(encoder, "encoder-0", Role.ENCODER), status_of(decoder))
    async with cluster.client.get("/v1/chiasm/trace?since=12.5") as answer:
        assert answer.status == 200
        found = msgspec.json.decode(await answer.read(), type=ClusterRecords)
    assert encoder.records_asked == decoder.records_asked == ["12.5"]
    assert [worker.worker for worker in found.workers] == ["encoder-0", "decoder-0"]
    assert abs(found.now - time.time()) < PATIENCE_S


async def test_one_recording_is_fetched_at_a_time(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        asked.set()
        await go_on.wait()
        return web.Response(body=msgspec.json.encode(EngineRecords(time.time())))

    decoder = cluster.decoders[0]
    cluster.scheduler.workers = (status_of(decoder),)
    decoder.tells = hang
    async with asyncio.timeout(PATIENCE_S):
        first = asyncio.create_task(cluster.client.get("/v1/chiasm/trace?since=1"))
        await asked.wait()
        decoder.tells = None
        monkeypatch.setattr(routes, "TURN_TIMEOUT_S", 0.05)
        async with cluster.client.get("/v1/chiasm/trace?since=2") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
        monkeypatch.undo()
        third = asyncio.create_task(cluster.client.get("/v1/chiasm/trace?since=3"))
        await cluster.metrics()
        assert decoder.records_asked == []
        go_on.set()
        assert [(await one).status for one in (first, third)] == [200, 200]
    assert decoder.records_asked == ["3.0"]


@pytest.mark.parametrize("query", ["", "?since=", "?since=yesterday", "?since=nan"])
async def test_the_route_must_be_told_since_when(cluster: Cluster, query: str) -> None:
    async with cluster.client.get(f"/v1/chiasm/trace{query}") as answer:
        assert answer.status == 400
        assert "unix seconds" in (await answer.json())["error"]["message"]
