"""Clients that ask a gateway all the time, and note how each request ends."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from chat_inputs import data_url, image_part, png

from chiasm.api_paths import CHAT_PATH

LONGEST = 40  # tokens of an answer
TIMEOUT_S = 60.0
RETRY_S = 0.1
AGAIN = {"stopping"}
"""Errors that mean that nothing has been done, so that clients ask again, as OpenAI's does."""


def expected(tokens: int) -> str:
    """The whole answer of a stand-in engine."""
    return "".join(f"{number} " for number in range(tokens))


@dataclass
class Askers:
    """`ends` is how often requests ended in which way: `answered`, the code of an error, or what went wrong.

    `images` counts the answers by the image of the engine that gave them, and `again` how often requests were sent
    again.
    """

    url: str
    key: str = ""
    ends: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    again: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _stopping: bool = False

    async def run(self, clients: int) -> None:
        async with (
            ClientSession(headers=self._headers(), timeout=ClientTimeout(TIMEOUT_S)) as session,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(clients):
                group.create_task(self._client(session))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def stop(self) -> None:
        """No more requests; what is under way comes to its end."""
        self._stopping = True

    async def _client(self, session: ClientSession) -> None:
        while not self._stopping:
            number = next(self._numbers)
            tokens, stream, picture = 1 + 7 * number % LONGEST, number % 3 > 0, number % 2 > 0
            while (end := await self._ask(session, number, tokens, stream, picture)) in AGAIN:
                self.again += 1
                await asyncio.sleep(RETRY_S)
            self.ends[end] += 1

    async def _ask(self, session: ClientSession, number: int, tokens: int, stream: bool, picture: bool) -> str:
        content: list[dict[str, Any]] = [{"type": "text", "text": f"question {number}"}]
        if picture:
            content.append(image_part(data_url(png("red", (56 + number % 500, 28 + number // 500)))))
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": tokens, "stream": stream}
        try:
            async with session.post(f"{self.url}{CHAT_PATH}", json=body | {"model": "m"}) as answer:
                said = await answer.read()
        except (ClientError, OSError, TimeoutError) as error:
            return f"broken: {type(error).__name__}"
        if answer.status != 200:
            return str(json.loads(said)["error"]["code"])
        return self._streamed(said, tokens) if stream else self._whole(json.loads(said), tokens)

    def _whole(self, answer: dict[str, Any], tokens: int) -> str:
        self.images[answer["system_fingerprint"]] += 1
        text = answer["choices"][0]["message"]["content"]
        return "answered" if text == expected(tokens) else f"wrong: {text}"

    def _streamed(self, said: bytes, tokens: int) -> str:
        events = [event.partition(b"data: ")[2] for event in said.strip().split(b"\n\n")]
        if events[-1] != b"[DONE]":
            return "a stream that was cut off"
        chunks = [json.loads(event) for event in events[:-1]]
        if "error" in chunks[-1]:
            return str(chunks[-1]["error"]["code"])
        self.images[chunks[-1]["system_fingerprint"]] += 1
        choices = [chunk["choices"][0] for chunk in chunks]
        text = "".join(choice["delta"]["content"] for choice in choices)
        return "answered" if text == expected(tokens) and choices[-1]["finish_reason"] else f"wrong: {text}"


@contextmanager
def asking(url: str, clients: int, key: str = "") -> Iterator[Askers]:
    """So many clients ask as long as the context lasts; every request has ended behind it."""
    askers = Askers(url, key)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(lambda: asyncio.run(askers.run(clients)))
        try:
            yield askers
        finally:
            askers.stop()
            running.result(2 * TIMEOUT_S)
