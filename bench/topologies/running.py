"""What serves while it is compared: engines, a cluster of Chiasm's, or a server that somebody else has started."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import psutil

from bench.load.asking import Endpoint, Unreachable, served_model
from bench.topologies.epd_proxy import STATUS_PATH
from bench.topologies.program import GUARD, START_TIMEOUT_S, NotServing, Program
from bench.topologies.setting import SERVED_NAME
from chiasm.calibration import Chunk
from chiasm.client import get_json
from chiasm.engine import Engine, EngineFailed


class Running(Protocol):
    """One arrangement, behind one endpoint."""

    name: str
    chunks: Sequence[int]  # prefill chunks, in tokens, of those of its engines that were calibrated
    calibrated: Sequence[Chunk]  # the same, with what was measured

    def wait_ready(self) -> None:
        """Return when it serves.

        Raises:
            NotServing: it does not; the message names the cause, with the last lines of the log.
        """
        ...

    @property
    def endpoint(self) -> Endpoint:
        """Whom to ask, once it is ready."""
        ...

    def processes(self) -> list[psutil.Process]:
        """Of its engines, and of a cluster all that belongs to it; parents first. Empty where they are not ours.

        Guards are not among them: they end the others when we are gone, also if these are stopped.
        """
        ...

    def retries(self) -> int:
        """How often a proxy of ours has had to ask its engines once more; 0 where there is none."""
        ...


class Engines:
    """Stock engines, which are asked through a program in front of them, or directly where there is but one."""

    def __init__(
        self, name: str, engines: Sequence[Engine], front: Program | None, key: str, chunks: Sequence[Chunk] = ()
    ) -> None:
        self.name = name
        self.chunks: Sequence[int] = [chunk.tokens for chunk in chunks]
        self.calibrated = chunks
        self._engines = engines
        self._ready = False
        self._front = front
        self._key = key

    def wait_ready(self) -> None:
        """See `Running`."""
        try:
            for engine in self._engines:
                engine.wait_ready(START_TIMEOUT_S)
        except EngineFailed as error:
            raise NotServing(f"{self.name}: {error}") from error
        if self._front is not None:
            self._front.wait_ready()
        self._ready = True

    @property
    def endpoint(self) -> Endpoint:
        """See `Running`."""
        url = self._engines[0].url if self._front is None else self._front.url
        return Endpoint(url, SERVED_NAME, self._key)

    def processes(self) -> list[psutil.Process]:
        """See `Running`. A router or a proxy that nobody asks does nothing at all."""
        return [process for engine in self._engines for process in _family(engine.pid)]

    def retries(self) -> int:
        """See `Running`."""
        return 0


class Disaggregated(Engines):
    """Those of vLLM's encoder disaggregation, behind its proxy."""

    def retries(self) -> int:
        """See `Running`."""
        if not self._ready:
            return 0
        retries: int = get_json(self.endpoint.url, STATUS_PATH)["retries"]
        return retries


class Cluster:
    """A cluster that `chiasm serve` runs."""

    def __init__(self, name: str, program: Program, key: str, chunks: Sequence[Chunk] = ()) -> None:
        self.name = name
        self.chunks: Sequence[int] = [chunk.tokens for chunk in chunks]
        self.calibrated = chunks
        self._program = program
        self._key = key

    def wait_ready(self) -> None:
        """See `Running`."""
        self._program.wait_ready()

    @property
    def endpoint(self) -> Endpoint:
        """See `Running`."""
        return Endpoint(self._program.url, SERVED_NAME, self._key)

    def processes(self) -> list[psutil.Process]:
        """See `Running`."""
        return _family(self._program.pid)

    def retries(self) -> int:
        """See `Running`: its gateway's are its own affair, and in its counters."""
        return 0


class Remote:
    """A server that was there before, and stays."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.name = url
        self.chunks: Sequence[int] = ()  # whatever they are, nobody tells
        self.calibrated: Sequence[Chunk] = ()
        self._key = key
        self._endpoint: Endpoint | None = None

    def wait_ready(self) -> None:
        """See `Running`: it must serve now."""
        try:
            self._endpoint = Endpoint(self.name.rstrip("/"), served_model(self.name, self._key), self._key)
        except Unreachable as error:
            raise NotServing(str(error)) from error

    @property
    def endpoint(self) -> Endpoint:
        """See `Running`."""
        assert self._endpoint is not None
        return self._endpoint

    def processes(self) -> list[psutil.Process]:
        """See `Running`."""
        return []

    def retries(self) -> int:
        """See `Running`."""
        return 0


def _family(guard: int) -> list[psutil.Process]:
    """Whom that guard guards, but for guards."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(guard).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if GUARD not in process.cmdline():
                    found.append(process)
    return found
