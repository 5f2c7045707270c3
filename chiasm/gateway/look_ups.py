"""How the names of image hosts become addresses that may be connected to: looked up in threads, by few at a time, and
checked.
"""

import asyncio
import socket
from collections.abc import Awaitable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from threading import Thread

from aiohttp.abc import AbstractResolver, ResolveResult

from chiasm.gateway.addresses import Reach
from chiasm.gateway.shares import Shares

asking: ContextVar[str] = ContextVar("asking")
"""The tenant for whom the current task fetches: the HTTP client that calls the resolver does not know of tenants."""


class AddressRefused(Exception):
    """A name leads to an address that may not be connected to."""


class CheckedResolver(AbstractResolver):
    """Looks names up, `at_once` at most, and gives out only addresses that have been checked."""

    def __init__(self, reach: Reach, at_once: int) -> None:
        self._reach = reach
        self._room = Shares(at_once, "As many names of hosts are being looked up as may be at once")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`, in the HTTP client's form.

        Raises:
            OSError: it has none.
            AddressRefused: one of them is not to be connected to.
            ApiError: 429; its tenant has as many names looked up as it may.
        """
        addresses = await self._look_up(host, port)
        # All of them: a name with one address outside and one inside is no accident.
        if not addresses or not all(map(self._reach.permits, addresses)):
            raise AddressRefused
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to do: the threads end by themselves, or with the process."""

    def _look_up(self, host: str, port: int) -> Awaitable[Sequence[str]]:
        loop = asyncio.get_running_loop()
        found: Future[Sequence[str]] = Future()
        found.set_running_or_notify_cancel()  # whoever stops waiting for it does not stop the thread

        def look_up() -> None:
            try:
                found.set_result(self._reach.look_up(host, port))
            except Exception as error:
                found.set_exception(error)
            with suppress(RuntimeError):  # the gateway may have ended meanwhile
                loop.call_soon_threadsafe(held.close)

        held = ExitStack()  # until the thread ends, not only as long as somebody waits
        try:
            held.enter_context(self._room.share(asking.get()))(1)
            # A daemon, which no pool's thread is: a process that is to end does not wait for a name server.
            Thread(target=look_up, name="look-up", daemon=True).start()
        except BaseException:
            held.close()
            raise
        return asyncio.wrap_future(found)
