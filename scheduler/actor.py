"""The scheduler's process: carries messages between ZeroMQ and the pure core, and tells it the time.

It decides nothing. It must not import Ray.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Callable

from chiasm import messages
from chiasm.config import ClusterConfig
from chiasm.loop_thread import LoopThread
from chiasm.nouns import RequestId, WorkerId
from chiasm.wire.channel import ChannelServer
from chiasm.wire.keys import ClusterKeys
from scheduler.core import Core
from scheduler.events import Decision, Refused
from scheduler.garbage import COLLECT_BELOW, COLLECT_S, sparing_what_waits
from scheduler.gateways import Gateways, Peer
from scheduler.placement import Placement
from scheduler.workers import EncodeWorker

logger = logging.getLogger(__name__)

TICK_S = 0.1
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0


class Scheduler:
    """A Ray actor (see `chiasm.cluster`) with one thread for the core. `endpoint` is fixed, so peers find it again.

    `encoders` is how encodes are placed; by least predicted finish unless given. `another_life` is asked whether an
    earlier process has come up: then nobody waits for this one to, and it ends where it cannot.
    """

    def __init__(
        self,
        endpoint: str,
        config: ClusterConfig,
        keys: ClusterKeys,
        encoders: Placement[EncodeWorker] | None = None,
        another_life: Callable[[], bool] = lambda: False,
    ) -> None:
        self._endpoint = endpoint
        self._config = config
        self._keys = keys
        scheduler = config.scheduler
        self._core = Core(scheduler, encoders, scheduler.stealing, scheduler.itl_slo_ms / 1000)
        self._gateways = Gateways()
        self._workers: dict[WorkerId, Peer] = {}
        self._loop = LoopThread("scheduler", self._run, another_life())

    def endpoint(self) -> str:
        """Where it listens.

        Raises:
            RuntimeError: it could not start, e.g. because the address is taken.
        """
        bound = self._loop.call(self._bound, START_TIMEOUT_S)
        self._loop.vital = True
        return bound

    def stop(self) -> None:
        """Close the sockets."""
        self._loop.stop(STOP_TIMEOUT_S)

    async def _bound(self) -> str:
        return self._channel.endpoint

    async def _run(self) -> None:
        self._channel = ChannelServer(self._endpoint, self._keys, self._config.security)
        try:
            with sparing_what_waits():
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._receive())
                    group.create_task(self._tick())
        finally:
            self._channel.close()

    async def _receive(self) -> None:
        while True:
            peer, message = await self._channel.receive()
            if isinstance(message, messages.AskStatus):
                self._channel.send(peer, self._core.status(message.request, time.monotonic()))
            elif isinstance(message, messages.AskReasons):
                self._channel.send(peer, self._core.reasons(message.request, message.about, time.monotonic()))
            elif isinstance(message, messages.Join):
                self._cancel(self._gateways.join(peer, message.gateway, time.monotonic()))
            elif isinstance(message, messages.Alive):
                if not self._gateways.heard(peer, time.monotonic()):
                    self._channel.send(peer, messages.Forgotten(message.joins))
            elif isinstance(message, messages.FromGateway):
                if peer in self._gateways:  # else it will say it again, when it hears that it is forgotten
                    self._of_a_request(peer, message)
            elif isinstance(message, messages.FromWorker):
                self._workers[message.worker] = peer
                self._dispatch(self._core.handle(message, time.monotonic()))
            else:
                logger.warning("%s is not for the scheduler", type(message).__name__)

    def _of_a_request(self, peer: Peer, message: messages.FromGateway) -> None:
        decisions = self._core.handle(message, time.monotonic())
        if isinstance(message, messages.Submit) and not any(isinstance(each, Refused) for each in decisions):
            self._gateways.submitted(peer, message.request)
        self._dispatch(decisions)
        if isinstance(message, messages.DecodeDone | messages.Cancel):
            self._gateways.ended(message.request)

    async def _tick(self) -> None:
        collected = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            self._dispatch(self._core.tick(now))
            for peer in self._gateways.silent_since(now - self._config.scheduler.heartbeat_timeout_s):
                self._forget_gateway(peer, "it has fallen silent")
            if now - collected > COLLECT_S and self._core.live < COLLECT_BELOW:
                gc.collect()
                collected = now

    def _dispatch(self, decisions: list[Decision]) -> None:
        for decision in decisions:
            if isinstance(decision, Refused):
                logger.error("%s", decision)
                continue
            if isinstance(decision, messages.Unknown):
                peer = self._workers.pop(decision.worker, None)
            elif isinstance(decision, messages.Pause | messages.Resume):
                peer = self._workers.get(decision.worker)
            else:
                peer = self._gateways.sender(decision.request)
            if isinstance(decision, messages.Reject):
                self._gateways.ended(decision.request)
            if peer is not None and not self._channel.send(peer, decision):
                if isinstance(decision, messages.Pause | messages.Resume):
                    self._forget_worker(decision.worker)
                else:
                    self._forget_gateway(peer, f"it could not be sent {type(decision).__name__}")

    def _forget_gateway(self, peer: Peer, why: str) -> None:
        """A gateway is gone, and its requests with it; if it lives, it joins again and submits them anew."""
        orphans = self._gateways.leave(peer)
        logger.warning("a gateway is given up, with %d requests: %s", len(orphans), why)
        self._cancel(orphans)

    def _cancel(self, orphans: list[RequestId]) -> None:
        """They must not hold credits until their deadlines."""
        for request in orphans:
            self._dispatch(self._core.handle(messages.Cancel(request), time.monotonic()))

    def _forget_worker(self, worker: WorkerId) -> None:
        """Nobody knows whether its engine is held. The worker registers anew when it is heard of again, and lets go."""
        self._workers.pop(worker, None)
        lost = messages.Lost(worker, "it could not be told to pause or to resume")
        self._dispatch(self._core.handle(lost, time.monotonic()))
