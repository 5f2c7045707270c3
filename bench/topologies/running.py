"""What serves while it is compared: engines, a cluster of Chiasm's, or a server that somebody else has started."""

from collections.abc import Sequence
from typing import Protocol

from bench.load.asking import Endpoint, Unreachable, served_model
from bench.topologies.program import START_TIMEOUT_S, NotServing, Program
from bench.topologies.setting import SERVED_NAME
from chiasm.calibration import Chunk
from chiasm.engine import Engine, EngineFailed


class Running(Protocol):
    """One arrangement, behind one endpoint."""

    name: str
    chunks: Sequence[int]  # prefill chunks, in tokens, of those of its engines that were calibrated

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


class Engines:
    """Stock engines, which are asked through a program in front of them, or directly where there is but one."""

    def __init__(
        self, name: str, engines: Sequence[Engine], front: Program | None, key: str, chunks: Sequence[Chunk] = ()
    ) -> None:
        self.name = name
        self.chunks: Sequence[int] = [chunk.tokens for chunk in chunks]
        self._engines = engines
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

    @property
    def endpoint(self) -> Endpoint:
        """See `Running`."""
        url = self._engines[0].url if self._front is None else self._front.url
        return Endpoint(url, SERVED_NAME, self._key)


class Cluster:
    """A cluster that `chiasm serve` runs."""

    def __init__(self, name: str, program: Program, key: str, chunks: Sequence[Chunk] = ()) -> None:
        self.name = name
        self.chunks: Sequence[int] = [chunk.tokens for chunk in chunks]
        self._program = program
        self._key = key

    def wait_ready(self) -> None:
        """See `Running`."""
        self._program.wait_ready()

    @property
    def endpoint(self) -> Endpoint:
        """See `Running`."""
        return Endpoint(self._program.url, SERVED_NAME, self._key)


class Remote:
    """A server that was there before, and stays."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.name = url
        self.chunks: Sequence[int] = ()  # whatever they are, nobody tells
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
