"""The gateway's one line to the scheduler: messages out, decisions in, each handed to the request that it names. Owns
no request; imports no ZeroMQ (the channel is handed in).
"""

import asyncio
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from chiasm.messages import (
    AnyMessage,
    AskReasons,
    AskStatus,
    FromGateway,
    Reasons,
    Status,
    ToGateway,
)
from chiasm.nouns import RequestId

Answer = TypeVar("Answer", Status, Reasons)

logger = logging.getLogger(__name__)

DECISIONS_HELD = 1024
"""Decisions that one request may have waiting; its flow takes each at once, so only a scheduler run wild fills it."""


class Channel(Protocol):
    """What the link needs of `chiasm.wire.channel.ChannelClient`."""

    def send(self, message: AnyMessage) -> object:
        """Queue a message; never blocks."""

    async def receive(self) -> AnyMessage:
        """The next message from the scheduler."""


class SchedulerLink:
    """Routes the scheduler's decisions to requests. `run` must be running meanwhile."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._requests: dict[RequestId, asyncio.Queue[ToGateway]] = {}

    async def run(self) -> None:
        """Route decisions until cancelled."""
        while True:
            message = await self._channel.receive()
            if not isinstance(message, ToGateway):
                logger.warning("the scheduler sent %s, which is not for a gateway", type(message).__name__)
                continue
            decisions = self._requests.get(message.request)
            if decisions is None:
                continue  # the request ended while the decision was under way
            try:
                decisions.put_nowait(message)
            except asyncio.QueueFull:
                logger.error("request %s has too many decisions waiting; one is dropped", message.request)

    def send(self, message: FromGateway) -> None:
        """Send one message to the scheduler; it may get lost if the scheduler is away."""
        self._channel.send(message)

    @contextmanager
    def open(self, request: RequestId) -> Iterator[asyncio.Queue[ToGateway]]:
        """The decisions about `request`, as long as the context lasts."""
        decisions: asyncio.Queue[ToGateway] = asyncio.Queue(DECISIONS_HELD)
        self._requests[request] = decisions
        try:
            yield decisions
        finally:
            del self._requests[request]

    async def ask_status(self, timeout_s: float) -> Status:
        """A snapshot of the scheduler.

        Raises:
            TimeoutError: the scheduler did not answer within `timeout_s` seconds.
        """
        return await self._ask(AskStatus(RequestId(uuid.uuid4().hex)), Status, timeout_s)

    async def ask_reasons(self, about: RequestId, timeout_s: float) -> Reasons:
        """Why a request was treated as it was.

        Raises:
            TimeoutError: the scheduler did not answer within `timeout_s` seconds.
        """
        return await self._ask(AskReasons(RequestId(uuid.uuid4().hex), about), Reasons, timeout_s)

    async def _ask(self, question: AskStatus | AskReasons, kind: type[Answer], timeout_s: float) -> Answer:
        with self.open(question.request) as answers:
            self.send(question)
            async with asyncio.timeout(timeout_s):
                while True:
                    answer = await answers.get()
                    if isinstance(answer, kind):
                        return answer
