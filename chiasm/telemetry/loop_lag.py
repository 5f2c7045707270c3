"""How late an event loop is with what it has to do: everything that it serves waits for so long at each turn."""

import asyncio
from collections.abc import Callable

EVERY_S = 0.25


async def watch_loop(observe: Callable[[float], None]) -> None:
    """Have `observe` told, a few times a second until cancelled, by how many seconds the running loop is late."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + EVERY_S
        await asyncio.sleep(EVERY_S)
        observe(max(0.0, clock() - due))
