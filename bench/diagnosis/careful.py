"""How somebody's production server is asked: no faster than allowed, and not again after anything has gone wrong."""

import asyncio
import time
from collections.abc import Sequence

import aiohttp

from bench.diagnosis import metrics
from bench.diagnosis.bodies import Body
from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned, ask

PATIENCE_S = 5.0  # for which requests may wait at the server at every reading, before that is too long


class Stopped(RuntimeError):
    """The diagnosis must not go on; the message says why, and what to do."""


class Asker:
    """Times are seconds since it was made.

    `per_s`: so many requests may be begun a second, without the streams'; None: as many as come.
    """

    def __init__(self, client: aiohttp.ClientSession, endpoint: Endpoint, per_s: float | None) -> None:
        self._client = client
        self._endpoint = endpoint
        self._apart_s = 0.0 if per_s is None else 1 / per_s
        self._free_s = 0.0  # when the next request may begin
        self._began = time.monotonic()
        self._number = 0
        self._waiting_since: float | None = None

    def now(self) -> float:
        """The time."""
        return time.monotonic() - self._began

    async def turn(self, requests: int = 1) -> None:
        """Return when so many more may be begun."""
        await asyncio.sleep(max(0.0, self._free_s - self.now()))
        self._free_s = self.now() + requests * self._apart_s

    async def ask(self, kind: str, body: Body) -> Answer:
        """Ask now, and return when the answer is complete.

        Raises:
            Stopped: it failed, or does not tell how many tokens the prompt had.
        """
        self._number += 1
        answer = await ask(self._client, self._endpoint, Planned(self.now(), kind, body), self._number, self._began)
        if answer.error is not None:
            raise Stopped(f"Stopped at the first error, of a {kind} request: {answer.error}")
        if answer.prompt_tokens is None or not answer.chunks_s:
            raise Stopped(
                f"{self._endpoint.url} streams no usage or no token, so what a picture costs per token cannot be told. "
                "Diagnose a server that honours stream_options.include_usage, as vLLM does."
            )
        return answer

    async def ask_at_once(self, kind: str, bodies: Sequence[Body]) -> list[Answer]:
        """All of them now; the answers when the last is complete.

        Raises:
            Stopped: see `ask`.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.ask(kind, body)) for body in bodies]
        return [task.result() for task in tasks]

    async def page(self) -> metrics.Page | None:
        """The server's metrics; None where it has none.

        Raises:
            Stopped: requests have been waiting there for some time.
        """
        found = await metrics.read(self._client, self._endpoint.url, self._endpoint.key)
        if found is None or not found.waiting:
            self._waiting_since = None
            return found
        now = self.now()
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        if now - self._waiting_since > PATIENCE_S:
            raise Stopped(
                f"Stopped, for {found.waiting} requests wait at {self._endpoint.url}: it has as much as it can take. "
                "Come again when it has less to do, or diagnose a copy of it."
            )
        return found
