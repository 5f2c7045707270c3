"""Holds an engine while its card is needed for something else, and lets it go on: as the scheduler has said last.

It must not import Ray.
"""

import asyncio
import time

from chiasm.engine import Engine


class Holding:
    """The hold on one engine, which starts without one. For one event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._wanted = False
        self._since = 0.0  # unix seconds, at which that was said
        self._changed = asyncio.Event()

    def want(self, held: bool) -> None:
        """From now on the engine is to be held, or not. Takes effect in `keep`."""
        self._wanted, self._since = held, time.time()
        self._changed.set()

    async def keep(self) -> None:
        """Bring the engine to what is wanted, again and again, until cancelled.

        One call at a time, so that none overtakes the one before. What is wanted meanwhile follows, unless it is wanted
        no longer by then.

        Raises:
            EngineFailed: the engine did not do as it was told.
        """
        held = False
        while True:
            await self._changed.wait()
            self._changed.clear()
            while held != (wanted := self._wanted):
                await asyncio.to_thread(self._engine.hold, wanted, self._since)
                held = wanted
