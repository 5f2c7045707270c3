"""How somebody's production server is asked: what it serves, then no faster than allowed, and nothing more once
anything has gone wrong.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bench.diagnosis import metrics
from bench.diagnosis.plan import Body
from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned, Unreachable, ask
from chiasm.client import EndpointError, get_json
from chiasm.hub import ModelUnreadable, model_config
from chiasm.models.builtin import named_model

MODELS_S = 10.0  # to name its models
WAITING_S = 5.0  # for which requests may wait at the server at every reading, before that is too long
FULLEST = 0.9  # of its KV cache
LEAST_DEADLINE_S = 15.0
TIMES = 5  # as slow as before is too slow
SLOWER_S = 1.0  # by which an answer must also be later: of short times, five is soon reached
SUPPOSED_TOKEN_S = 0.2  # until a stream has told
COME_AGAIN = "Come again when it has less to do, or diagnose a copy of it."


class Stopped(RuntimeError):
    """The diagnosis must not go on; the message says why, and what to do."""


class Refused(Stopped):
    """The server does not take what it was asked, and never will (400)."""


class NoConfiguration(ValueError):
    """A model's configuration that was named cannot be read; the message says why, and what to do."""


@dataclass(frozen=True)
class Server:
    """The model that is asked."""

    endpoint: Endpoint
    longest: int | None  # tokens of prompt and answer, if it tells, as vLLM does
    folder: str | None  # where its model lies, if that is a folder that can be seen from here
    others: tuple[str, ...] = ()  # models that it lists too
    is_chiasm: bool = False  # a gateway, behind which images may be encoded elsewhere already


def look(url: str, key: str | None, model: str | None) -> Server:
    """Ask it for its models, of which `model` is meant, or the first. `url` may end in /v1.

    Raises:
        Unreachable: no answer, or not that model; the message says what to do.
    """
    base = url.rstrip("/").removesuffix("/v1")
    try:
        answered = get_json(base, "/v1/models", key, MODELS_S)
    except EndpointError as error:
        cure = " Pass its key: --api-key, or OPENAI_API_KEY." if " 401" in str(error) or " 403" in str(error) else ""
        raise Unreachable(f"{error}{cure}") from error
    try:
        listed = {str(each["id"]): each for each in answered["data"]}
        name = model or next(iter(listed))
    except (LookupError, TypeError, StopIteration) as error:
        raise Unreachable(f"{base} lists no model. Is it an OpenAI-compatible server that is ready?") from error
    if name not in listed:
        raise Unreachable(f"{base} lists no model {name}. Name one of these: {', '.join(listed)}.")
    longest, root = listed[name].get("max_model_len"), str(listed[name].get("root") or "")
    here = bool(root) and (Path(root) / "config.json").is_file()
    return Server(
        endpoint=Endpoint(base, name, key),
        longest=longest if isinstance(longest, int) else None,
        folder=root if here else None,
        others=tuple(each for each in listed if each != name),
        is_chiasm=listed[name].get("owned_by") == "chiasm",
    )


def configuration(server: Server, source: str | None) -> Mapping[str, Any] | None:
    """The `config.json`, every field of it present, of `source` (a folder or a hub id), or of what the server serves,
    if that is a folder here. None: neither is at hand. No code that comes with a model is run.

    Raises:
        NoConfiguration: see there; only of a `source` that is named.
    """
    wanted = source or server.folder
    if wanted is None:
        return None
    try:
        return model_config(named_model(wanted))
    except ModelUnreadable as error:
        if source is None:
            return None
        raise NoConfiguration(f"{error}. Name its folder.") from error


class Asker:
    """Times are seconds since it was made.

    `per_s`: so many requests may be begun a second, without the streams'; None: as many as come. `engine`: the one
    whose metrics count, by its label; None: all.
    """

    def __init__(
        self, client: aiohttp.ClientSession, endpoint: Endpoint, per_s: float | None, engine: str | None = None
    ) -> None:
        self.endpoint = endpoint
        self._client = client
        self._engine = engine
        self._apart_s = 0.0 if per_s is None else 1 / per_s
        self._free_s = 0.0  # when the next request may begin
        self._began = time.monotonic()
        self._number = 0
        self._slowest_s = 0.0  # time to first token
        self._token_s = SUPPOSED_TOKEN_S
        self._first: dict[str, float] = {}
        self._preempted: int | None = None  # before the first reading: unknown
        self._waiting_since: float | None = None

    def now(self) -> float:
        """The time."""
        return time.monotonic() - self._began

    async def turn(self, requests: int = 1) -> None:
        """Return when so many more may be begun."""
        await asyncio.sleep(max(0.0, self._free_s - self.now()))
        self._free_s = self.now() + requests * self._apart_s

    async def ask(self, kind: str, body: Body, at_once: int = 1) -> Answer:
        """Ask now, as one of so many, and return when the answer is complete.

        Raises:
            Stopped: it failed, took many times as long as any before, is shorter than was asked, or does not tell how
                many tokens the prompt had.
        """
        self._number += 1
        planned = Planned(self.now(), kind, body)
        wanted = int(body["max_tokens"])
        deadline_s = max(LEAST_DEADLINE_S, TIMES * at_once * self._slowest_s) + TIMES * wanted * self._token_s
        try:
            async with asyncio.timeout(deadline_s):
                answer = await ask(self._client, self.endpoint, planned, self._number, self._began)
        except TimeoutError as error:
            raise Stopped(
                f"Stopped, for a {kind} request took more than {deadline_s:.0f} s. The server has more to do than it "
                "can, or pictures of this size are too large for it: name smaller --sizes."
            ) from error
        if answer.error is not None:
            refused = f"{self.endpoint.url} answered 400: " in answer.error
            raise (Refused if refused else Stopped)(f"Stopped at the first error, of a {kind} request: {answer.error}")
        if answer.prompt_tokens is None or not answer.chunks_s:
            raise Stopped(
                f"{self.endpoint.url} streams no usage or no token, so what a picture costs per token cannot be told. "
                "Diagnose a server that honours stream_options.include_usage, as vLLM does."
            )
        self._slowest_s = max(self._slowest_s, answer.waited_s)
        self._token_s = answer.tpot_s or self._token_s
        return answer

    async def ask_at_once(self, kind: str, bodies: Sequence[Body]) -> list[Answer]:
        """All of them now; the answers when the last is complete.

        Raises:
            Stopped: see `ask`.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.ask(kind, body, len(bodies))) for body in bodies]
        return [task.result() for task in tasks]

    def steady(self, what: str, seconds: float, slack_s: float = 0.0) -> None:
        """Note how long something took.

        Raises:
            Stopped: it took many times as long, and so much longer, than when it was first noted.
        """
        first_s = self._first.setdefault(what, seconds)
        if seconds > TIMES * first_s and seconds > first_s + slack_s:
            raise Stopped(
                f"Stopped, for {what} took {1000 * seconds:.0f} ms, which at first took {1000 * first_s:.0f}: the "
                f"server has more to do than it can. {COME_AGAIN}"
            )

    async def page(self) -> metrics.Page | None:
        """The server's metrics; None where it has none.

        Raises:
            Stopped: the server has as much as it can take.
        """
        found = await metrics.read(self._client, self.endpoint.url, self.endpoint.key, self._engine)
        if found is None:
            return None
        now = self.now()
        since = self._waiting_since if self._waiting_since is not None else now
        self._waiting_since = since if found.waiting else None
        preempted, self._preempted = self._preempted, found.preempted
        for full, why in (
            (bool(found.waiting) and now - since > WAITING_S, f"{found.waiting} requests wait"),
            (found.taken > FULLEST, f"{found.taken:.0%} of the KV cache is taken"),
            (preempted is not None and found.preempted > preempted, "requests are preempted for want of KV cache"),
        ):
            if full:
                raise Stopped(f"Stopped, for {why} at {self.endpoint.url}: it has as much as it can take. {COME_AGAIN}")
        return found
