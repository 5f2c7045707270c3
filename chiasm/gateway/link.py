"""The gateway's one line to the scheduler: messages out, decisions in, each handed to the request that it names. Says
that the gateway lives, and hears when the scheduler has forgotten it. Owns no request; imports no ZeroMQ (the channel
is handed in).
"""

import asyncio
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from chiasm.messages import (
    Alive,
    AnyMessage,
    AskReasons,
    AskStatus,
    Forgotten,
    FromGateway,
    Join,
    Presence,
    Reasons,
    Status,
    ToGateway,
)
from chiasm.nouns import GatewayId, RequestId

Answer = TypeVar("Answer", Status, Reasons)

Decisions = asyncio.Queue[ToGateway | Forgotten]
"""About one request. Forgotten means that the scheduler knows nothing of it, and decides nothing until it is submitted
again."""

logger = logging.getLogger(__name__)

DECISIONS_HELD = 1024
"""Decisions that one request may have waiting; its flow takes each at once, so only a scheduler run wild fills it."""


class Channel(Protocol):
    """What the link needs of `chiasm.wire.channel.ChannelClient`."""

    def send(self, message: AnyMessage) -> bool:
        """Queue a message, or drop it and return False; never blocks."""

    async def receive(self) -> AnyMessage:
        """The next message from the scheduler."""


class SchedulerLink:
    """Routes the scheduler's decisions to requests. `run` must be running meanwhile."""

    def __init__(self, channel: Channel, heartbeat_s: float) -> None:
        self._channel = channel
        self._heartbeat_s = heartbeat_s
        self._gateway = GatewayId(uuid.uuid4().hex)
        self._joins = 0
        self._dropped = False  # something that the scheduler should have heard
        self._requests: dict[RequestId, Decisions] = {}

    async def run(self) -> None:
        """Join, route decisions, and say that this gateway lives, until cancelled."""
        self._join()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._route())
            group.create_task(self._beat())

    async def _route(self) -> None:
        while True:
            message = await self._channel.receive()
            if isinstance(message, Forgotten):
                if message.joins == self._joins:
                    self._join_again("the scheduler has forgotten this gateway")
            elif isinstance(message, ToGateway):
                self._hand(message.request, message)
            else:
                logger.warning("the scheduler sent %s, which is not for a gateway", type(message).__name__)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            if self._dropped:
                self._join_again("the scheduler did not take what it was sent")
            else:
                self.send(Alive(self._joins))

    def _join(self) -> None:
        self._dropped = False
        self._joins += 1
        self.send(Join(self._gateway))

    def _join_again(self, why: str) -> None:
        """What was submitted is void, so each request must see to itself."""
        logger.warning("%s: its %d requests begin anew where they wait", why, len(self._requests))
        self._join()
        for request in self._requests:
            self._hand(request, Forgotten(self._joins))

    def _hand(self, request: RequestId, message: ToGateway | Forgotten) -> None:
        decisions = self._requests.get(request)
        if decisions is None:
            return  # the request ended while the decision was under way
        try:
            decisions.put_nowait(message)
        except asyncio.QueueFull:
            logger.error("request %s has too many decisions waiting; one is dropped", request)

    def send(self, message: FromGateway | Presence) -> None:
        """Send one message to the scheduler. If it gets lost, requests are told that they are forgotten."""
        if not self._channel.send(message):
            self._dropped = True

    @contextmanager
    def open(self, request: RequestId) -> Iterator[Decisions]:
        """The decisions about `request`, as long as the context lasts."""
        decisions: Decisions = asyncio.Queue(DECISIONS_HELD)
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
