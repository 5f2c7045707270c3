"""An OTLP collector in this process: takes what any exporter sends over gRPC, and says what trees of spans it was."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)


@dataclass(frozen=True)
class Received:
    """One span."""

    service: str
    name: str
    trace: str
    id: str
    parent: str  # empty for a root
    began: float  # unix seconds
    ended: float
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    failed: bool


class Receiver(TraceServiceServicer):
    """All spans that have come so far."""

    def __init__(self) -> None:
        self.endpoint = ""
        self._spans: list[Received] = []
        self._came = threading.Condition()

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:
        with self._came:
            for resource in request.resource_spans:
                service = _attributes(resource.resource.attributes).get("service.name", "")
                self._spans += [_received(service, span) for scope in resource.scope_spans for span in scope.spans]
            self._came.notify_all()
        return ExportTraceServiceResponse()

    def wait_for(self, name: str, timeout_s: float = 20.0) -> list[Received]:
        """All spans of the trace that has a span of this name, once that has come."""
        with self._came:
            assert self._came.wait_for(lambda: any(span.name == name for span in self._spans), timeout_s), (
                f"no span {name} came: {sorted(span.name for span in self._spans)}"
            )
        return self.of(next(span.trace for span in self._spans if span.name == name))

    def of(self, trace: str) -> list[Received]:
        """All spans of a trace that have come so far."""
        with self._came:
            return [span for span in self._spans if span.trace == trace]


def tree(spans: list[Received]) -> dict[str, list[str]]:
    """The names of each span's children, as they began, by its own name, or by its id if it did not come itself."""
    names = {span.id: span.name for span in spans}
    children: dict[str, list[str]] = {}
    for span in sorted(spans, key=lambda span: (span.began, span.ended)):
        children.setdefault(names.get(span.parent, span.parent), []).append(span.name)
    return children


def is_sampled(traceparent: str) -> bool:
    """What its flags say (W3C Trace Context)."""
    return bool(int(traceparent.split("-")[3], 16) & 1)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A collector at `endpoint`."""
    receiver = Receiver()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    receiver.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        server.stop(None).wait()


def _received(service: str, span: Any) -> Received:
    return Received(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        _attributes(span.attributes),
        [(event.name, _attributes(event.attributes)) for event in span.events],
        span.status.code == span.status.STATUS_CODE_ERROR,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
