"""A request's timeline as an OpenTelemetry trace, as a collector gets it."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from otlp_receiver import Received, Receiver, is_sampled, receiving, tree

from chiasm.messages import Reason
from chiasm.nouns import Embedding, Item, ItemUuid, RequestId, Role, WorkerId
from chiasm.telemetry import tracing as tracing_module
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.records import EngineCall, EngineRecords, Transfer
from chiasm.telemetry.timelines.timeline import assemble
from chiasm.telemetry.tracing import Tracing, otlp_exporter

ENCODER, DECODER, THIEF = WorkerId("encoder-0"), WorkerId("decoder-0"), WorkerId("encoder-0-text")
UUID = ItemUuid("a" * 64)
EMBEDDING = Embedding(UUID, "key", "image", {}, "ipc:///e", (4, 8), "float32")
CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_to(self, now: float) -> None:
        self.now = now


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


async def trace_image(
    receiver: Receiver, headers: dict[str, str], part: float = 1.0, trusts: bool = True
) -> dict[str, str]:
    """Traces a request about one image; returns what its engines were sent."""
    time = Time()
    marks = Marks(RequestId("r"), time)
    tracing = Tracing(otlp_exporter(receiver.endpoint), part, trusts, "demo")
    trace = tracing.begin("chat", headers, marks, 16)
    time.pass_to(1001.0)
    marks.submitted([Item(UUID, "image", 4)], streams=True)
    time.pass_to(1002.0)
    encode = marks.encode_posted(UUID, ENCODER)
    sent = {"encoder": trace.encode_headers(encode)["traceparent"]}
    time.pass_to(1005.0)
    marks.encode_answered(encode, 4, 128)
    time.pass_to(1006.0)
    marks.decode_posted(DECODER, Role.DECODER, [EMBEDDING])
    sent["decoder"] = trace.decode_headers(marks.decodes[-1])["traceparent"]
    time.pass_to(1010.0)
    marks.first_token()
    time.pass_to(1012.0)
    marks.last_token()
    marks.decode_answered(7)
    marks.ended("answered")
    encoder = EngineRecords(1012.0, (EngineCall("r.0", 1002.1, 1003.0, 1003.5, 1004.9, 1004.9, 4, 0, 0, 0, "stop"),))
    decoder = EngineRecords(
        1012.0,
        (EngineCall("r", 1006.1, 1007.0, 1009.0, 1010.0, 1012.0, 20, 16, 7, 0, "stop"),),
        (Transfer("key", 1007.5, 1008.5, 128),),
    )
    timeline = assemble(marks, time.now, {ENCODER: encoder, DECODER: decoder}, {})
    numbers = {"owed": 0.0, "tokens": 4.0, "tokens_per_s": 2.0}
    placed = Reason(3.0, "encode placed", ENCODER, UUID, numbers, ())
    trace.finish(timeline, [(1001.5, placed)])
    await tracing.close()
    return sent


def named(spans: list[Received], name: str) -> Received:
    [found] = [span for span in spans if span.name == name]
    return found


async def test_a_request_is_one_tree_of_spans(receiver: Receiver) -> None:
    sent = await trace_image(receiver, {"traceparent": CLIENT})
    spans = receiver.wait_for("chat demo")
    assert tree(spans) == {
        "b7ad6b7169203331": ["chat demo"],
        "chat demo": ["fetch", "encode_queue", "encode encoder-0", "decode_queue", "decode decoder-0"],
        "encode encoder-0": ["preprocess", "encode_queue", "encode"],
        "decode decoder-0": ["preprocess", "decode_queue", "transfer", "decode_queue", "prefill", "decode"],
    }
    assert {span.trace for span in spans} == {"0af7651916cd43dd8448eb211c80319c"}
    assert sent["encoder"].split("-")[2] == named(spans, "encode encoder-0").id
    assert sent["decoder"].split("-")[2] == named(spans, "decode decoder-0").id
    assert all(map(is_sampled, sent.values()))


async def test_spans_say_when_where_and_how_much(receiver: Receiver) -> None:
    await trace_image(receiver, {})
    spans = receiver.wait_for("chat demo")
    root = named(spans, "chat demo")
    assert (root.began, root.ended, root.parent) == (1000.0, 1012.0, "")
    assert root.attributes["gen_ai.operation.name"] == "chat"
    assert root.attributes["gen_ai.request.model"] == "demo"
    assert root.attributes["gen_ai.usage.input_tokens"] == 20  # 16 of them from the prefix cache
    assert root.attributes["gen_ai.usage.output_tokens"] == 7
    assert root.attributes["gen_ai.response.time_to_first_chunk"] == 10.0
    transfer = named(spans, "transfer")
    assert (transfer.began, transfer.ended, transfer.attributes["chiasm.bytes"]) == (1007.5, 1008.5, 128)
    assert transfer.attributes["chiasm.worker"] == DECODER
    phases = [span for span in spans if "chiasm.self_seconds" in span.attributes]
    assert sum(span.attributes["chiasm.self_seconds"] for span in phases) == pytest.approx(12.0)


async def test_the_scheduler_says_why(receiver: Receiver) -> None:
    await trace_image(receiver, {})
    spans = receiver.wait_for("chat demo")
    [wait] = [span for span in spans if span.name == "encode_queue" and span.service == "chiasm-scheduler"]
    said = "encoder-0 would have encoded"
    assert wait.attributes["chiasm.reason"].startswith(said)
    [(what, told)] = named(spans, "chat demo").events
    assert what == "encode placed"
    assert told["chiasm.reason"].startswith(said)
    assert {span.service for span in spans} == {"chiasm-gateway", "chiasm-scheduler"}


@pytest.mark.parametrize(("headers", "part"), [({"traceparent": CLIENT[:-1] + "0"}, 1.0), ({}, 0.0)])
async def test_who_is_not_traced_is_traced_nowhere(receiver: Receiver, headers: dict[str, str], part: float) -> None:
    sent = await trace_image(receiver, headers, part)
    assert not any(map(is_sampled, sent.values()))  # so engines begin none of their own
    await trace_image(receiver, {"traceparent": CLIENT})
    assert {span.trace for span in receiver.wait_for("chat demo")} == {CLIENT.split("-")[1]}


async def test_a_client_that_is_not_trusted_decides_nothing(receiver: Receiver) -> None:
    sent = await trace_image(receiver, {"traceparent": CLIENT}, part=0.0, trusts=False)
    assert not any(map(is_sampled, sent.values()))
    await trace_image(receiver, {"traceparent": CLIENT[:-1] + "0"}, part=1.0, trusts=False)
    spans = receiver.wait_for("chat demo")
    assert {span.trace for span in spans} != {CLIENT.split("-")[1]}
    assert named(spans, "chat demo").parent == ""


async def test_a_request_that_failed_shows_as_failed(receiver: Receiver) -> None:
    time = Time()
    marks = Marks(RequestId("r"), time)
    tracing = Tracing(otlp_exporter(receiver.endpoint), 1.0, True, "demo")
    trace = tracing.begin("text_completion", {}, marks, 16)
    marks.submitted([], streams=False)
    marks.decode_posted(DECODER, Role.DECODER, [])
    trace.decode_headers(marks.decodes[-1])
    time.pass_to(1001.0)
    marks.decode_failed("the engine is gone", 0)
    marks.ended("decode_failed")
    trace.finish(assemble(marks, time.now, {}, {}), [])
    await tracing.close()
    spans = receiver.wait_for("text_completion demo")
    assert named(spans, "text_completion demo").attributes["error.type"] == "decode_failed"
    assert named(spans, "text_completion demo").failed
    assert named(spans, "decode decoder-0").failed


@pytest.mark.parametrize("outcome", ["refused_by_engine", "client_left"])
async def test_what_a_client_brings_about_is_named_and_no_failure_of_the_server(
    receiver: Receiver, outcome: str
) -> None:
    marks = Marks(RequestId("r"), Time())
    tracing = Tracing(otlp_exporter(receiver.endpoint), 1.0, True, "demo")
    trace = tracing.begin("chat", {}, marks, 16)
    marks.ended(outcome)
    trace.finish(assemble(marks, 1001.0, {}, {}), [])
    await tracing.close()
    root = named(receiver.wait_for("chat demo"), "chat demo")
    assert (root.attributes["error.type"], root.failed) == (outcome, False)


async def test_two_posts_of_a_request_that_moved_are_two_spans(receiver: Receiver) -> None:
    time = Time()
    marks = Marks(RequestId("r"), time)
    tracing = Tracing(otlp_exporter(receiver.endpoint), 1.0, True, "demo")
    trace = tracing.begin("chat", {}, marks, 16)
    marks.submitted([], streams=True)
    for worker, role in ((THIEF, Role.TEXT), (DECODER, Role.DECODER)):
        time.pass_to(time.now + 1)
        marks.decode_posted(worker, role, [])
        trace.decode_headers(marks.decodes[-1])
        time.pass_to(time.now + 1)
        marks.first_token()
        time.pass_to(time.now + 1)
        marks.decode_returned(3) if role is Role.TEXT else marks.decode_answered(4)
    marks.ended("answered")
    trace.finish(assemble(marks, time.now, {}, {}), [])
    await tracing.close()
    spans = receiver.wait_for("chat demo")
    assert tree(spans)["chat demo"] == [*("decode_queue", "decode encoder-0-text", "decode_queue", "decode decoder-0")]
    stolen = [span for span in spans if span.attributes.get("chiasm.worker") == THIEF and span.name == "decode"]
    assert "stolen" in stolen[0].attributes["chiasm.note"]
    assert "given back" in stolen[-1].attributes["chiasm.note"]


class Hangs(SpanExporter):
    """A collector that takes what it is sent, and says nothing until it is `freed`."""

    def __init__(self) -> None:
        self.freed, self.closed = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.freed.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.closed.set()


def test_a_collector_that_hangs_keeps_no_gateway_from_ending(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing_module, "CLOSE_TIMEOUT_S", 0.05)
    exporter = Hangs()

    async def serve() -> None:
        marks = Marks(RequestId("r"), Time())
        tracing = Tracing(exporter, 1.0, True, "demo")
        tracing.begin("chat", {}, marks, 16).finish(assemble(marks, 1001.0, {}, {}), [])
        await tracing.close()

    try:
        asyncio.run(serve())
        assert not exporter.closed.is_set()
        assert "the last traces could not be sent" in caplog.text
    finally:
        exporter.freed.set()
        assert exporter.closed.wait(20)
