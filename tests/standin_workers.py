"""The real workers, whose engines only look like one: ready at once, and nobody answers at their address.

Not a test: Ray imports it where it places them.
"""

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chiasm.supervisor
from chiasm.engine import EngineFailed, EngineSpec
from decoder.worker import DecoderWorker
from encoder.worker import EncoderWorker


class StandInEngine:
    """Lives until it is stopped."""

    url = "http://127.0.0.1:1"
    stage = "ready"

    def __init__(self, spec: EngineSpec, log: Callable[[str], None]) -> None:
        self.spec = spec
        self.runtime = Path(tempfile.mkdtemp())  # in TMPDIR, which the test removes
        self._ended = threading.Event()

    def wait_ready(self, timeout_s: float) -> None: ...

    def answers(self) -> bool:
        return True

    def kv_cache_tokens(self) -> int:
        return 1000

    def wait(self) -> int:
        self._ended.wait()
        return 0

    def failure(self) -> EngineFailed:
        return EngineFailed(f"{self.spec.name} ended")

    def stop(self) -> None:
        self._ended.set()


class StandInEncoder(EncoderWorker):
    def __init__(self, *given: Any) -> None:
        chiasm.supervisor.Engine = StandInEngine  # type: ignore[misc, assignment]
        super().__init__(*given)


class StandInDecoder(DecoderWorker):
    def __init__(self, *given: Any) -> None:
        chiasm.supervisor.Engine = StandInEngine  # type: ignore[misc, assignment]
        super().__init__(*given)
