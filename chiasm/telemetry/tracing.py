"""OpenTelemetry: a request's timeline as one trace over gateway, scheduler, encoders and decoders.

    chat {model}                                          chiasm-gateway; a child of the client's span, if it sent one
    ├─ fetch
    ├─ encode_queue                                       chiasm-scheduler, with its reasons as events
    ├─ encode encoder-0                                   one post, as the gateway saw it
    │  ├─ preprocess, encode_queue, encode                as the engine measured them
    │  └─ llm_request                                     vLLM's own, from the engine itself
    ├─ decode_queue                                       chiasm-scheduler
    └─ decode decoder-0
       ├─ preprocess, decode_queue, transfer, prefill, decode
       └─ llm_request

Whether a request is traced is its client's decision if it sends a `traceparent` that is trusted, else it is drawn.
Engines are told either way (W3C trace context), so that they never begin a trace of their own.
"""

import asyncio
import logging
import math
import os
import threading
from collections.abc import Mapping, Sequence

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_OTLP_TRACES_PROTOCOL
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chiasm.explain import sentence
from chiasm.messages import Reason
from chiasm.telemetry.marks import DecodeAttempt, EncodeAttempt, Marks
from chiasm.telemetry.records import Phase
from chiasm.telemetry.timelines.spans import WAITS, Span
from chiasm.telemetry.timelines.timeline import Timeline

logger = logging.getLogger(__name__)

GATEWAY, SCHEDULER = "chiasm-gateway", "chiasm-scheduler"
CLOSE_TIMEOUT_S = 5.0
_WELL = "answered"
_CLIENTS_DOING = ("invalid", "client_left", "refused_by_engine")  # of other outcomes, no failure of ours

_w3c = TraceContextTextMapPropagator()
Headers = Mapping[str, str]


class Tracing:
    """Where traces go. `close` it at the end.

    Args:
        exporter: takes the finished spans, in batches, on a thread of its own.
        part: of the requests whose clients send no trusted `traceparent`, how many are traced, 0 to 1.
        trusts: whether clients' are trusted.
        model: the name that it is served under.
    """

    def __init__(self, exporter: SpanExporter, part: float, trusts: bool, model: str) -> None:
        self._model = model
        self._trusts = trusts
        self._providers = []
        processor = BatchSpanProcessor(exporter)
        for service in (GATEWAY, SCHEDULER):
            resource = Resource.create({"service.name": service})
            provider = TracerProvider(ParentBasedTraceIdRatio(part), resource, shutdown_on_exit=False)
            provider.add_span_processor(processor)
            self._providers.append(provider)
        self._gateway, self._scheduler = (provider.get_tracer("chiasm") for provider in self._providers)

    def begin(self, operation: str, headers: Headers, marks: Marks, max_tokens: int) -> "RequestTrace":
        """The trace of one request that has been read: `operation` is "chat" or "text_completion"."""
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "chiasm",
            "gen_ai.request.model": self._model,
            "gen_ai.request.max_tokens": max_tokens,
            "chiasm.request_id": marks.request,
        }
        root = self._gateway.start_span(
            f"{operation} {self._model}",
            context=_w3c.extract(headers) if self._trusts else Context(),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=_nanoseconds(marks.arrived_at),
        )
        return RequestTrace(root, marks, self._gateway, self._scheduler)

    async def close(self) -> None:
        """Send what is left, in `CLOSE_TIMEOUT_S` seconds or not at all."""
        # OpenTelemetry may wait longer for its collector, and a thread of an executor keeps the process as long.
        thread = threading.Thread(target=self._shut_down, name="last-traces", daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join, CLOSE_TIMEOUT_S)
        if thread.is_alive():
            logger.warning("the last traces could not be sent within %.0f s", CLOSE_TIMEOUT_S)

    def _shut_down(self) -> None:
        for provider in self._providers:
            provider.shutdown()


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Sends spans to a collector: over gRPC, or by `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf`, as vLLM does.

    Raises:
        ValueError: the variable names another protocol.
    """
    protocol = os.environ.get(OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, "grpc")
    if protocol == "grpc":
        return GrpcExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
    if protocol == "http/protobuf":
        return HttpExporter(endpoint=endpoint)
    raise ValueError(f"{OTEL_EXPORTER_OTLP_TRACES_PROTOCOL} is {protocol}: it must be grpc or http/protobuf.")


class RequestTrace:
    """One request's trace while it runs. Nothing is sent before `finish`, and nothing at all unless it is `sampled`."""

    def __init__(self, root: trace.Span, marks: Marks, gateway: Tracer, scheduler: Tracer) -> None:
        self._root = root
        self._marks = marks
        self._gateway = gateway
        self._scheduler = scheduler
        self._context = trace.set_span_in_context(root)
        self._encodes: list[tuple[EncodeAttempt, trace.Span]] = []
        self._decodes: list[tuple[DecodeAttempt, trace.Span]] = []

    @property
    def sampled(self) -> bool:
        """Whether it is to be sent."""
        return self._root.is_recording()

    def encode_headers(self, attempt: EncodeAttempt) -> dict[str, str]:
        """What the post of an item is sent with, so that the engine's own span becomes a part of this trace."""
        span = self._call(f"encode {attempt.worker}", attempt.posted_at)
        self._encodes.append((attempt, span))
        return _headers(span)

    def decode_headers(self, attempt: DecodeAttempt) -> dict[str, str]:
        """Likewise of the request itself."""
        span = self._call(f"decode {attempt.worker}", attempt.posted_at)
        self._decodes.append((attempt, span))
        return _headers(span)

    def _call(self, name: str, began: float) -> trace.Span:
        return self._gateway.start_span(name, self._context, SpanKind.CLIENT, start_time=_nanoseconds(began))

    def finish(self, timeline: Timeline, reasons: Sequence[tuple[float, Reason]]) -> None:
        """End every span. `reasons` come with when they were noted, in unix seconds of the gateway."""
        for span in timeline.spans:
            self._emit(span, reasons)
        calls: list[tuple[EncodeAttempt | DecodeAttempt, trace.Span]] = [*self._encodes, *self._decodes]
        for attempt, call in calls:
            call.set_attribute("chiasm.worker", attempt.worker)
            if attempt.failure:
                call.set_status(Status(StatusCode.ERROR, attempt.failure))
            call.end(_nanoseconds(timeline.ended if attempt.ended_at is None else attempt.ended_at))
        for at, reason in reasons:
            told = {"chiasm.worker": reason.worker, "chiasm.reason": _in_words(reason)}
            self._root.add_event(reason.what, told, _nanoseconds(at))
        self._end_root(timeline)

    def _emit(self, span: Span, reasons: Sequence[tuple[float, Reason]]) -> None:
        call = self._call_of(span)
        waits = call is None and span.phase in WAITS
        tracer = self._scheduler if waits else self._gateway
        context = self._context if call is None else trace.set_span_in_context(call)
        told: dict[str, str | int | float | None] = {
            "chiasm.phase": span.phase,
            "chiasm.self_seconds": span.self_seconds,
            "chiasm.worker": span.worker,
            "chiasm.item": span.item,
            "chiasm.attempt": span.attempt,
            "chiasm.bytes": span.nbytes or None,
            "chiasm.tokens": span.tokens or None,
            "chiasm.note": span.note or None,
            "chiasm.reason": self._reason(span, reasons) if waits else None,
        }
        attributes = {name: value for name, value in told.items() if value is not None}
        began = _nanoseconds(span.began)
        tracer.start_span(span.phase, context, attributes=attributes, start_time=began).end(_nanoseconds(span.ended))

    def _call_of(self, span: Span) -> trace.Span | None:
        """The call that `span` is a part of; None for what happened between the calls."""
        if span.phase is Phase.ENCODE_QUEUE or span.phase is Phase.ENCODE or span.phase is Phase.PREPROCESS:
            for encode, call in reversed(self._encodes):
                if encode.item == span.item and _within(span, encode):
                    return call
        for decode, call in reversed(self._decodes):
            if _within(span, decode):
                return call
        return None

    def _reason(self, span: Span, reasons: Sequence[tuple[float, Reason]]) -> str | None:
        """Why the wait ended with this worker."""
        said = [reason for _, reason in reasons if reason.worker == span.worker and reason.what in _CHOICES[span.phase]]
        return _in_words(said[min(len(said), span.attempt or 1) - 1]) if said else None

    def _end_root(self, timeline: Timeline) -> None:
        root = self._root
        root.set_attribute("gen_ai.usage.output_tokens", timeline.output_tokens)
        if timeline.prompt_tokens:
            root.set_attribute("gen_ai.usage.input_tokens", timeline.prompt_tokens)
        first = [attempt.first_token_at for attempt, _ in self._decodes if attempt.first_token_at is not None]
        if first:
            root.set_attribute("gen_ai.response.time_to_first_chunk", first[0] - timeline.arrived)
        for phase, seconds in timeline.self_seconds.items():
            root.set_attribute(f"chiasm.self_seconds.{phase}", seconds)
        if timeline.missing:
            root.set_attribute("chiasm.missing", list(timeline.missing))
        if self._marks.outcome != _WELL:
            root.set_attribute("error.type", self._marks.outcome)
            if self._marks.outcome not in _CLIENTS_DOING:
                root.set_status(Status(StatusCode.ERROR, self._marks.outcome))
        root.end(_nanoseconds(timeline.ended))


_CHOICES = {Phase.ENCODE_QUEUE: ("encode placed",), Phase.DECODE_QUEUE: ("decode posted", "stolen", "only thieves")}


def _within(span: Span, attempt: EncodeAttempt | DecodeAttempt) -> bool:
    over = math.inf if attempt.ended_at is None else attempt.ended_at
    return span.worker == attempt.worker and attempt.posted_at <= span.began < over


def _headers(span: trace.Span) -> dict[str, str]:
    headers: dict[str, str] = {}
    _w3c.inject(headers, trace.set_span_in_context(span))
    return headers


def _in_words(reason: Reason) -> str:
    return sentence(msgspec.structs.asdict(reason))


def _nanoseconds(at: float) -> int:
    return int(at * 1e9)
