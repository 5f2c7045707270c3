"""The gateway's process: an HTTP server with a line to the scheduler. It must not import Ray."""

import asyncio
import time
from collections.abc import Callable

from chiasm.continuable import parses_chats
from chiasm.gateway.app import DRAIN, ServingFacts, make_app, start_gateway
from chiasm.gateway.link import SchedulerLink
from chiasm.listening import base_url
from chiasm.loop_thread import LoopThread
from chiasm.membership import Membership

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 20.0


class Gateway:
    """A Ray actor (see `chiasm.cluster`). It listens as soon as it is made.

    `another_life` is asked whether an earlier process has listened: then nobody waits for this one to, and it ends
    where it cannot.
    """

    def __init__(self, membership: Membership, another_life: Callable[[], bool] = lambda: False) -> None:
        self._membership = membership
        self._listening = asyncio.Event()
        self._url = ""
        self._loop = LoopThread("gateway", self._run, another_life())

    def url(self) -> str:
        """Base URL of the endpoint, once it listens.

        Raises:
            RuntimeError: it could not listen, e.g. because the port is taken; the message says why.
        """
        self._loop.call(self._listening.wait, START_TIMEOUT_S)
        self._loop.vital = True
        return self._url

    def stop(self) -> None:
        """Take no more requests, let those under way go on for `gateway.drain_s`, end them, and stop listening."""
        self._loop.stop(self._membership.config.gateway.drain_s + STOP_TIMEOUT_S)

    async def _run(self) -> None:
        config, facts = self._membership.config, self._membership.facts
        channel = self._membership.connect()
        serving = ServingFacts(
            model=facts.name,
            model_revision=facts.revision,
            pixels_per_token=facts.pixels_per_token,
            image_tokens=facts.image_tokens,
            image_pixels=facts.image_pixels,
            max_model_len=facts.max_model_len,
            sampling=facts.sampling,
            longest_answer=facts.longest_answer,
            parsed_chats=parses_chats(config.text_engine_args),
            created=int(time.time()),
        )
        link = SchedulerLink(channel, config.scheduler.heartbeat_s)
        app = make_app(serving, config.gateway, link, self._membership.token, telemetry=config.telemetry)
        try:
            runner = await start_gateway(app, config.gateway)
            try:
                # What was bound, not what was configured: a name may have several addresses, each with its free port.
                host, port, *_ = runner.addresses[0]
                self._url = base_url(host, port)
                self._listening.set()
                await asyncio.Event().wait()  # until cancelled
            finally:
                await app[DRAIN](config.gateway.drain_s)
                await runner.cleanup()
        finally:
            channel.close()
