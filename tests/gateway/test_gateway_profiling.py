"""Where a request's time went, told by the gateway: on its own route, in the answer itself, and as a trace."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from gateway_fakes import (
    FACTS,
    HEARTBEAT_S,
    TOKEN,
    CoreChannel,
    FakeEngine,
    answers,
    chat_body,
    data_url,
    encodes,
    png,
    replies,
    running,
)
from otlp_receiver import Receiver, is_sampled, receiving, tree

from chiasm.config import GatewayConfig, SchedulerConfig, TelemetryConfig
from chiasm.gateway.app import make_app, start_gateway
from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.views import profiling
from chiasm.messages import Register
from chiasm.nouns import Role, WorkerId
from chiasm.telemetry.records import EngineRecords, Phase
from chiasm.telemetry.timelines.collected import WorkerRecords
from chiasm.telemetry.timelines.timeline import Timeline
from scheduler.core import Core

pytestmark = pytest.mark.slow

ASKING = {"X-Chiasm-Timeline": "true"}
IMAGE = chat_body(data_url(png()))


class Served:
    def __init__(self, encoder: FakeEngine, decoder: FakeEngine, client: ClientSession) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.client = client

    async def post(self, body: Any, **headers: str) -> tuple[str, bytes]:
        """The id of a request that is answered, and its answer."""
        async with self.client.post("/v1/chat/completions", json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.read()
            return answer.headers["X-Request-Id"], await answer.read()

    async def timeline(self, request: str) -> Timeline:
        async with self.client.get(f"/v1/chiasm/requests/{request}") as answer:
            assert answer.status == 200, await answer.read()
            return msgspec.json.decode(await answer.read(), type=Timeline)


@asynccontextmanager
async def serving(**telemetry: Any) -> AsyncIterator[Served]:
    encoder, decoder = FakeEngine(encodes), FakeEngine(answers)
    async with running(encoder, decoder):
        channel = CoreChannel(Core(SchedulerConfig(max_attempts=2)))
        channel.send(Register(WorkerId("encoder-0"), Role.ENCODER, "n", encoder.url, 4, 0, 1000.0))
        channel.send(Register(WorkerId("decoder-0"), Role.DECODER, "n", decoder.url, 4, 10_000, 100.0))
        config, told = GatewayConfig(port=0), TelemetryConfig(**telemetry)
        app = make_app(FACTS, config, SchedulerLink(channel, HEARTBEAT_S), TOKEN, telemetry=told)
        runner = await start_gateway(app, config)
        try:
            async with ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
                yield Served(encoder, decoder, client)
        finally:
            await runner.cleanup()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_told_phase_by_phase(served: Served, stream: bool) -> None:
    request, _ = await served.post(IMAGE | {"stream": stream})
    assert (served.encoder.records_asked, served.decoder.records_asked) == ([], [])  # nothing before somebody asks
    timeline = await served.timeline(request)
    assert (timeline.request, timeline.outcome, timeline.missing) == (request, "answered", ())
    where = {span.phase: span.worker for span in timeline.spans}
    assert where[Phase.ENCODE] == "encoder-0"
    assert where[Phase.PREFILL] == "decoder-0"
    assert sum(timeline.self_seconds.values()) + timeline.unattributed_seconds == pytest.approx(timeline.wall_seconds)
    assert timeline.clock_uncertainty_seconds.keys() == {"encoder-0", "decoder-0"}


async def test_engines_know_their_calls_by_the_request_and_its_item(served: Served) -> None:
    request, _ = await served.post(chat_body(data_url(png("red")), data_url(png("blue"))))
    assert {call.headers["X-Request-Id"] for call in served.encoder.calls} == {f"{request}.0", f"{request}.1"}
    assert [call.headers["X-Request-Id"] for call in served.decoder.calls] == [request]
    assert {span.item for span in (await served.timeline(request)).spans if span.phase is Phase.ENCODE} == {0, 1}
    [keys] = served.decoder.keys_asked
    assert len(keys) == 2  # it is asked of the transfers of these alone


async def test_a_request_under_way_is_told_as_far_as_it_has_come(served: Served) -> None:
    seen, go_on = asyncio.Event(), asyncio.Event()

    async def waits(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        seen.set()
        await go_on.wait()
        return await answers(request, body)

    served.decoder.behaviours = [waits]
    asking = asyncio.create_task(served.post(chat_body()))
    async with asyncio.timeout(10):
        await seen.wait()
    request = served.decoder.calls[0].headers["X-Request-Id"]
    timeline = await served.timeline(request)
    assert timeline.outcome == ""
    assert any("under way" in span.note for span in timeline.spans)
    go_on.set()
    assert (await asking)[0] == request
    assert (await served.timeline(request)).outcome == "answered"


async def test_an_engine_that_is_silent_costs_a_timeline_only_its_part(served: Served) -> None:
    request, _ = await served.post(IMAGE)
    await served.decoder.stop()
    timeline = await served.timeline(request)
    assert [what for what in timeline.missing if what.startswith("decoder-0 was not heard")]
    assert Phase.ENCODE in {span.phase for span in timeline.spans}


async def test_an_engine_that_does_not_know_a_call_yet_is_asked_once_more_and_the_others_are_not(
    served: Served,
) -> None:
    request, _ = await served.post(IMAGE)
    known, served.decoder.remembered = served.decoder.remembered, []

    async def late(_request: web.Request) -> web.Response:
        served.decoder.tells, served.decoder.remembered = None, known
        return web.Response(body=msgspec.json.encode(EngineRecords(time.time())))

    served.decoder.tells = late
    timeline = await served.timeline(request)
    assert timeline.missing == ()
    assert (served.encoder.records_asked, served.decoder.records_asked) == ([request], [request])


async def test_engines_have_one_deadline_for_all_that_they_are_asked(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, _ = await served.post(IMAGE)
    given = []

    async def collects(_upstream: Any, workers: Any, _question: Any, timeout_s: float) -> Any:
        given.append(timeout_s)
        await asyncio.sleep(0.01)
        return tuple(WorkerRecords(one.worker, one.role, one.node, EngineRecords(time.time())) for one in workers)

    monkeypatch.setattr(profiling, "collect", collects)
    await served.timeline(request)
    first, second = given
    assert first <= profiling.ASKING_TIMEOUT_S
    assert second <= first - profiling.LATE_S - 0.01


async def test_where_engines_remember_nothing_they_are_not_asked() -> None:
    async with serving(timelines=0) as served:
        _, answer = await served.post(IMAGE, **ASKING)
        timeline = msgspec.convert(json.loads(answer)["chiasm"]["timeline"], Timeline)
        assert (served.encoder.records_asked, served.decoder.records_asked) == ([], [])
        assert [what for what in timeline.missing if what.startswith("decoder-0 was not heard")]


async def test_what_is_unknown_or_forgotten_is_an_error(served: Served) -> None:
    async with served.client.get("/v1/chiasm/requests/nobody") as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "unknown_request"
    async with serving(timelines=2) as forgetful:
        first, *_, last = [(await forgetful.post(chat_body()))[0] for _ in range(3)]
        assert (await forgetful.timeline(last)).request == last
        async with forgetful.client.get(f"/v1/chiasm/requests/{first}") as answer:
            assert answer.status == 404


async def test_an_answer_can_carry_its_own_timeline(served: Served) -> None:
    _, plain = await served.post(IMAGE)
    request, answer = await served.post(IMAGE, **ASKING)
    told = json.loads(answer)
    timeline = msgspec.convert(told.pop("chiasm")["timeline"], Timeline)
    assert told.keys() == json.loads(plain).keys()
    assert timeline.request == request
    [missing] = timeline.missing  # the first request had it encoded
    assert missing.startswith("item 0 was not encoded for this request")
    assert Phase.PREFILL in {span.phase for span in timeline.spans}
    assert timeline.output_tokens == told["usage"]["completion_tokens"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_tells_its_timeline_before_it_is_done(served: Served, path: str) -> None:
    asks = chat_body() if path.endswith("chat/completions") else {"model": "demo", "prompt": "hi"}
    async with served.client.post(path, json=asks | {"stream": True}) as answer:
        plain = await answer.read()
    async with served.client.post(path, json=asks | {"stream": True}, headers=ASKING) as answer:
        *events, own, done, rest = (await answer.read()).split(b"\n\n")
    assert [*events, done, rest] == plain.split(b"\n\n")
    assert done == b"data: [DONE]"
    event = json.loads(own.removeprefix(b"data: "))
    assert event["choices"] == []
    timeline = msgspec.convert(event["chiasm"]["timeline"], Timeline)
    assert timeline.request == event["id"]
    assert Phase.PREFILL in {span.phase for span in timeline.spans}
    assert timeline.output_tokens == 7


async def test_an_error_is_told_without_a_timeline(served: Served) -> None:
    served.decoder.usual = replies(400, {"error": {"message": "no", "type": "BadRequestError", "code": 400}})
    async with served.client.post("/v1/chat/completions", json=chat_body(), headers=ASKING) as answer:
        assert answer.status == 400
        assert (await answer.json()).keys() == {"error"}


async def test_a_gateways_own_phases_are_in_its_metrics(served: Served) -> None:
    await served.post(IMAGE)
    async with served.client.get("/metrics") as answer:
        page = await answer.text()
    for phase in ("fetch", "encode_queue", "decode_queue"):
        assert f'chiasm_phase_seconds_count{{phase="{phase}"}} 1.0' in page


# -- traces --------------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


Traced = Callable[..., AbstractAsyncContextManager[Served]]


async def test_a_request_is_one_trace_and_engines_are_told_which(receiver: Receiver) -> None:
    async with serving(otlp_endpoint=receiver.endpoint) as served:
        await served.post(IMAGE | {"stream": True})
        encode, decode = served.encoder.calls[0].headers, served.decoder.calls[0].headers
    spans = receiver.wait_for("chat demo")
    children = tree(spans)
    assert children["chat demo"] == ["fetch", "encode_queue", "encode encoder-0", "decode_queue", "decode decoder-0"]
    by_name = {span.name: span.id for span in spans}
    assert encode["traceparent"].split("-")[1:3] == [spans[0].trace, by_name["encode encoder-0"]]
    assert decode["traceparent"].split("-")[1:3] == [spans[0].trace, by_name["decode decoder-0"]]
    [root] = [span for span in spans if span.name == "chat demo"]
    assert [what for what, _ in root.events] == [
        *("admitted", "encode placed", "encode posted", "encoded", "decode posted", "ended")
    ]


async def test_a_trace_can_be_a_part_of_the_clients_own(receiver: Receiver) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with serving(otlp_endpoint=receiver.endpoint, trace_part=0.0) as served:
        await served.post(chat_body())  # nobody asked for a trace of this one
        assert not is_sampled(served.decoder.calls[0].headers["traceparent"])
        await served.post(chat_body(), traceparent=f"00-{trace}-{parent}-01")
    spans = receiver.wait_for("chat demo")
    assert {span.trace for span in spans} == {trace}
    assert tree(spans)[parent] == ["chat demo"]


async def test_a_gateway_need_not_trust_its_clients_with_that(receiver: Receiver) -> None:
    async with serving(otlp_endpoint=receiver.endpoint, trace_part=0.0, trust_traceparent=False) as served:
        await served.post(chat_body(), traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        assert not is_sampled(served.decoder.calls[0].headers["traceparent"])


@pytest.mark.parametrize("asks", [True, False])
async def test_no_request_fails_for_a_trace_that_cannot_be_finished(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asks: bool
) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("no sense in these marks")

    monkeypatch.setattr(profiling, "assemble", breaks)
    monkeypatch.setattr(profiling, "TRACES_FINISHING", 256 if asks else 0)
    async with serving(otlp_endpoint=receiver.endpoint) as served:
        await served.post(IMAGE)
    assert "no sense in these marks" in caplog.text


async def test_no_request_fails_for_a_collector_that_is_away() -> None:
    async with serving(otlp_endpoint="http://127.0.0.1:1") as served:
        await served.post(IMAGE)
