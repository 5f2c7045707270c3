"""What requests compete for in a gateway, and how it is shared between API keys ("tenants" here): amounts that may be
held at once, turns, and threads. For one event loop; no I/O.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

from chiasm.gateway.errors import gateway_full

T = TypeVar("T")

Take = Callable[[int], None]
"""Takes that much more for one request; raises an ApiError (429) where there is not enough left."""


class Shares:
    """An amount of something, of which no tenant gets more than what it leaves free.

    So one tenant has at most half of it, two busy ones a third each, and there is always room for another one: without
    anybody having to know how many there will be.
    """

    def __init__(self, total: int, full: str) -> None:
        self._free = total
        self._full = full  # what to tell a client for whom there is not enough
        self._held: Counter[str] = Counter()

    @contextmanager
    def share(self, tenant: str) -> Iterator[Take]:
        """What one request of `tenant` holds, while the context lasts."""
        taken = 0

        def take(amount: int) -> None:
            nonlocal taken
            if self._held[tenant] + amount > self._free - amount:
                raise gateway_full(self._full)
            self._held[tenant] += amount
            self._free -= amount
            taken += amount

        try:
            yield take
        finally:
            self._free += taken
            self._held[tenant] -= taken
            self._held += Counter()  # drops those who hold nothing


class Turns:
    """So many turns at once. When one is over, the next goes to the tenants in rotation, and within one in order."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # the first tenant is the next one

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a turn; it lasts as long as the context."""
        if self._free:
            self._free -= 1
        else:
            given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(tenant, deque()).append(given)
            try:
                await given
            except asyncio.CancelledError:
                if not given.cancelled():
                    self._pass_on()  # it was given in the very moment of leaving
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            tenant = next(iter(self._waiting))
            queue = self._waiting.pop(tenant)
            while queue:
                given = queue.popleft()
                if not given.cancelled():
                    if queue:
                        self._waiting[tenant] = queue  # behind all others
                    given.set_result(None)
                    return
        self._free += 1


class Threads:
    """So many threads, in which tenants have their work done by turns. To be closed."""

    def __init__(self, count: int, name: str) -> None:
        self._turns = Turns(count)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, tenant: str, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` returns, which begins as soon as it is the tenant's turn.

        Once begun it cannot be stopped. So a cancellation waits for its end, and nothing that the tenant holds for it,
        the turn included, goes to anybody else before.
        """
        async with self._turns.turn(tenant):
            working = asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                while not working.done():
                    with suppress(asyncio.CancelledError):  # no matter how often
                        await asyncio.wait([working])
                raise

    def close(self) -> None:
        """End the threads, each with the work that it is at."""
        self._pool.shutdown(wait=False, cancel_futures=True)
