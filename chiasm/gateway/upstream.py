"""HTTP to the engines: one shared session, and every way that a call can end named. Knows nothing of clients or of the
scheduler. Deadlines are the caller's, except those for connecting and for asking about transfers.
"""

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from chiasm.api_paths import CHAT_PATH
from chiasm.gateway.bodies import (
    BadAnswer,
    TransferFailure,
    encode_body,
    error_message,
    read_embedding,
    read_text,
    read_transfers,
    text_body,
)
from chiasm.gateway.parsing import MediaPart, ParsedRequest
from chiasm.nouns import Embedding, ItemUuid, RequestId

CONNECT_TIMEOUT_S = 5.0
SILENT_HOST_S = 15
"""After which a connection has broken whose other host says nothing, not even that it lives: it has lost its power, or
its network. Else an answer from there would be waited for until the request's deadline."""
_PROBE_S = 5
TRANSFERS_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 256 << 20
MAX_REPORT_BYTES = 1 << 20

# Below the five seconds after which an engine's server closes an idle connection: a request sent into a connection that
# is just being closed would count as a failed attempt.
_KEEP_ALIVE_S = 3.0

MISCONFIGURED = (401, 403, 404, 405)
"""Statuses that blame how the engine and the gateway were set up, never the client."""

_PASSING = (408, 429)

# Another encode would come to the same.
_LASTING_TRANSFER_FAILURES = {"not_finite", "layout_mismatch", "version_mismatch", "too_large", "wrong_size"}


class EngineFailed(Exception):
    """An engine gave no complete answer.

    `retryable`: another attempt may succeed, as far as the engine is concerned. `lost`: the keys of embeddings that
    could not be fetched, so that the attempt must start with encoding them. `unreachable`: there was no connection, or
    it broke.
    """

    def __init__(
        self, reason: str, *, retryable: bool, lost: frozenset[str] = frozenset(), unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.unreachable = unreachable
        self.lost = lost


@dataclass(frozen=True)
class Page:
    """What an engine has to read, and its media type."""

    content: bytes
    content_type: str


class Upstream:
    """The engines, reached with the cluster's token. A context manager."""

    def __init__(self, cluster_token: str) -> None:
        self._session = ClientSession(
            # Unlimited, because what is under way is limited already, by the credits that the scheduler hands out.
            connector=TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S, socket_factory=_socket),
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            headers={"Authorization": f"Bearer {cluster_token}", "Content-Type": "application/json"},
            cookie_jar=DummyCookieJar(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def encode(
        self, url: str, call: str, parsed: ParsedRequest, part: MediaPart, headers: Mapping[str, str]
    ) -> Embedding:
        """Have the encoder at `url` encode one image, under the id `call`; `headers` are sent along.

        Raises:
            EngineFailed: it did not; not retryable if the image is at fault.
        """
        body = encode_body(parsed.body["model"], part.uuid, part.url, parsed.options)
        async with self.post(url, CHAT_PATH, call, body, headers) as answer:
            content = await read_limited(answer, MAX_REPORT_BYTES)
        if answer.status == 200:
            return _embedding(part.uuid, content)
        refused = 400 <= answer.status < 500 and answer.status not in (*MISCONFIGURED, *_PASSING)
        said = error_message(content)
        raise EngineFailed(said if refused else f"HTTP {answer.status} from the encoder: {said}", retryable=not refused)

    async def text_of(self, url: str, request: RequestId, model: str, tokens: list[int]) -> str:
        """The text of `tokens`, said by any engine of that model.

        Raises:
            EngineFailed: it did not say; retryable.
        """
        async with self.post(url, "/detokenize", request, text_body(model, tokens)) as answer:
            content = await read_limited(answer, MAX_REPORT_BYTES)
        if answer.status != 200:
            raise EngineFailed(f"HTTP {answer.status} from the engine: {error_message(content)}", retryable=True)
        try:
            return read_text(content)
        except BadAnswer as error:
            raise EngineFailed(str(error), retryable=True) from error

    @asynccontextmanager
    async def post(
        self, url: str, path: str, call: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[ClientResponse]:
        """The engine's answer to `body`, whatever its status; leaving the context early aborts it in the engine.

        It knows the request by the id `call`.

        Raises:
            EngineFailed: no answer, or the connection broke inside the context; retryable.
        """
        try:
            async with self._session.post(
                url + path, data=body, headers={"X-Request-Id": call, **(headers or {})}, allow_redirects=False
            ) as answer:
                yield answer
        except (ClientError, OSError) as error:
            raise _not_connected(url, error) from error

    @asynccontextmanager
    async def ask(self, url: str, path: str, timeout_s: float, method: str = "GET") -> AsyncIterator[ClientResponse]:
        """What an engine says of itself, whatever the status; `timeout_s` seconds are for all that the context does.

        Raises:
            EngineFailed: no answer, or the connection broke inside the context; retryable.
            TimeoutError: it took longer.
        """
        timeout = ClientTimeout(total=timeout_s)
        plain = {"Accept-Encoding": "identity"}  # an engine has better to do than to compress
        asking = self._session.request(method, url + path, timeout=timeout, headers=plain, allow_redirects=False)
        try:
            async with asking as answer:
                yield answer
        except TimeoutError:
            raise
        except (ClientError, OSError) as error:
            raise _not_connected(url, error) from error

    async def page(self, url: str, path: str, limit: int, timeout_s: float) -> Page:
        """What the engine at `url` has to read under `path`, of `limit` bytes at most.

        Raises:
            EngineFailed: it has no such page, or none so small, or could not be reached. The reason is for anybody: it
                does not tell the engine's address.
            TimeoutError: it was not there after `timeout_s` seconds.
        """
        try:
            async with self.ask(url, path, timeout_s) as answer:
                if answer.status != 200:
                    raise EngineFailed(f"HTTP {answer.status} from {path}", retryable=False)
                kind = answer.headers.get("Content-Type", "text/plain")
                return Page(await read_limited(answer, limit), kind)
        except EngineFailed as error:
            if not error.unreachable:
                raise
            cause = type(error.__cause__).__name__
            raise EngineFailed(f"no connection ({cause})", retryable=True, unreachable=True) from error

    async def decode_failure(self, url: str, request: RequestId, status: int, said: str) -> EngineFailed:
        """What lies behind a decoder's error `status` (500 for an error in a stream), before anything was delivered.

        To the decoder, an embedding that could not be had is an internal error like any other; only its record of
        transfers tells them apart.
        """
        if status in MISCONFIGURED:
            return EngineFailed(f"HTTP {status} from the engine: {said}", retryable=False)
        if status != 500:
            return EngineFailed(f"HTTP {status} from the engine: {said}", retryable=True)
        try:
            failed = await self._failed_transfers(url, request)
        except EngineFailed as error:
            if error.unreachable:
                return EngineFailed(f"{said} (and then the engine was gone: {error})", retryable=True, unreachable=True)
            return EngineFailed(f"{said} (its transfers are unknown: {error})", retryable=False)
        except (TimeoutError, BadAnswer) as error:
            return EngineFailed(f"{said} (its transfers are unknown: {error or 'no answer'})", retryable=False)
        if not failed:
            return EngineFailed(said, retryable=False)
        lasting = [failure for failure in failed if failure.code in _LASTING_TRANSFER_FAILURES]
        first = (lasting or failed)[0]
        return EngineFailed(
            f"embedding {first.key} could not be fetched: {first.code} {first.detail}".rstrip(),
            retryable=not lasting,
            lost=frozenset(failure.key for failure in failed),
        )

    async def _failed_transfers(self, url: str, request: RequestId) -> list[TransferFailure]:
        async with self.ask(url, f"/v1/chiasm/transfers/{request}", TRANSFERS_TIMEOUT_S) as answer:
            if answer.status != 200:
                raise BadAnswer(f"HTTP {answer.status}")
            return read_transfers(await read_limited(answer, MAX_REPORT_BYTES))


async def read_limited(answer: ClientResponse, limit: int) -> bytes:
    """The whole of an engine's answer.

    Raises:
        EngineFailed: it exceeds `limit` bytes; not retryable.
    """
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > limit:
            raise EngineFailed(f"an answer of more than {limit} bytes", retryable=False)
    return bytes(content)


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """For a connection to an engine at `address` (as `getaddrinfo` has it), that breaks when its host falls silent."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_S)
    # Also for what was sent, and for what cannot be sent because a server, alive as it may be, reads nothing (tcp(7)).
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENT_HOST_S)
    return made


def _not_connected(url: str, error: Exception) -> EngineFailed:
    reason = f"no connection to {url}: {error or type(error).__name__}"
    return EngineFailed(reason, retryable=True, unreachable=True)


def _embedding(uuid: ItemUuid, content: bytes) -> Embedding:
    try:
        return read_embedding(uuid, content)
    except BadAnswer as error:
        raise EngineFailed(str(error), retryable=True) from error
