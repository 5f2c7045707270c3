"""Pictures of mixed sizes, sent to an endpoint as users would, and how long each waited for its first token."""

import asyncio
import base64
import io
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import aiohttp
from PIL import Image

from chiasm.api_paths import CHAT_PATH
from chiasm.ask import chat_body

TIMEOUT_S = 600.0
DETAIL = 12  # spots of one colour along each side: a JPEG of them is about as small as a photograph's
STRETCH = 4 / 3  # of the longer side over the shorter, at most


class TrafficFailed(RuntimeError):
    """A request was not answered; the message has the endpoint's words."""


@dataclass(frozen=True)
class Answered:
    """One request: how long from when it was due to its first token, and when the answer was complete; both in seconds,
    the latter since the traffic began. And where its picture was encoded, and how many tokens it counts for there.
    """

    ttft_s: float
    ended_s: float
    encoder: str
    tokens: int


@dataclass(frozen=True)
class _Sent:
    """One answered request, in seconds of the monotonic clock."""

    request: str
    due: float
    first_token: float
    ended: float


_Send = Callable[[aiohttp.ClientSession, int, float], Awaitable[_Sent]]
"""Sends the request of that number, the traffic having begun at that time."""


def picture_bodies(count: int, sides: tuple[int, int], seed: str, unlike: str) -> list[bytes]:
    """Bodies of chat requests with a picture each, and an answer of one token.

    Sides, in pixels, are spread evenly over the logarithm between the two given, and come in an order that only `seed`
    decides: all lists of one `seed` ask for the same work. `unlike` makes their pictures differ, as caches see them.
    """
    order, content = random.Random(seed), random.Random(f"{seed}, {unlike}")
    least, most = sides
    means = [least * (most / least) ** ((index + 0.5) / count) for index in range(count)]
    order.shuffle(means)
    return [_body(mean, STRETCH ** order.uniform(-0.5, 0.5), content) for mean in means]


def _body(mean: float, stretch: float, content: random.Random) -> bytes:
    size = round(mean * stretch), round(mean / stretch)
    spots = Image.frombytes("RGB", (DETAIL, DETAIL), content.randbytes(3 * DETAIL**2))
    file = io.BytesIO()
    spots.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    return json.dumps(chat_body(None, [url], "What is this?", max_tokens=1, temperature=0, stream=True)).encode()


def arrivals(count: int, per_s: float, seed: str) -> list[float]:
    """When so many requests come, in seconds, if none knows of the others: a Poisson process."""
    chance = random.Random(seed)
    return list(accumulate(chance.expovariate(per_s) for _ in range(count)))


def send_when_due(url: str, bodies: Sequence[bytes], due_s: Sequence[float]) -> list[Answered]:
    """Sends each body when it is due, in seconds from now, whatever has become of the others; the answers in order.

    Raises:
        TrafficFailed: see there.
    """

    async def send(client: aiohttp.ClientSession, number: int, begun: float) -> _Sent:
        due = begun + due_s[number]
        await asyncio.sleep(due - time.monotonic())
        return await _first_token(client, bodies[number], due)

    return asyncio.run(_all_answers(url, len(bodies), send))


def send_at_once(url: str, bodies: Sequence[bytes], at_once: int) -> list[Answered]:
    """Keeps so many under way, each due when there is room for it; the answers in order.

    Raises:
        TrafficFailed: see there.
    """
    room = asyncio.Semaphore(at_once)

    async def send(client: aiohttp.ClientSession, number: int, _begun: float) -> _Sent:
        async with room:
            return await _first_token(client, bodies[number], time.monotonic())

    return asyncio.run(_all_answers(url, len(bodies), send))


async def _all_answers(url: str, count: int, send: _Send) -> list[Answered]:
    timeout = aiohttp.ClientTimeout(TIMEOUT_S)
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
        try:
            begun = time.monotonic()
            sent = await asyncio.gather(*(send(client, number, begun) for number in range(count)))
            return [await _explained(client, each, begun) for each in sent]  # when nobody's time is taken any more
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TrafficFailed(f"no answer from {url}: {error!r}") from error


async def _first_token(client: aiohttp.ClientSession, body: bytes, due: float) -> _Sent:
    headers = {"Content-Type": "application/json"}
    async with client.post(CHAT_PATH, data=body, headers=headers) as answer:
        first = await answer.content.readline()  # the gateway sends nothing before the first token
        first_token = time.monotonic()
        rest = await answer.content.read()
        if answer.status != 200 or not first.startswith(b"data:") or b"event: error" in rest:
            raise TrafficFailed(f"a request failed with status {answer.status}: {(first + rest)[:500].decode()}")
        return _Sent(answer.headers["X-Request-Id"], due, first_token, time.monotonic())


async def _explained(client: aiohttp.ClientSession, sent: _Sent, begun: float) -> Answered:
    async with client.get(f"/v1/chiasm/requests/{sent.request}/reasons") as answer:
        placed = [reason for reason in (await answer.json())["reasons"] if reason["what"] == "encode placed"]
    encoder, tokens = placed[-1]["worker"], round(placed[-1]["numbers"]["tokens"])
    return Answered(sent.first_token - sent.due, sent.ended - begun, encoder, tokens)
