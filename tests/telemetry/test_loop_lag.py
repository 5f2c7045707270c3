"""An event loop that is held up is late by as much."""

import asyncio
import time

from chiasm.telemetry.loop_lag import EVERY_S, watch_loop


async def test_a_loop_that_is_held_up_is_late() -> None:
    lags: asyncio.Queue[float] = asyncio.Queue()
    watching = asyncio.create_task(watch_loop(lags.put_nowait))
    async with asyncio.timeout(30):
        assert await lags.get() >= 0.0
        await asyncio.sleep(0)  # so that the next wait has begun
        time.sleep(EVERY_S + 0.2)  # noqa: ASYNC251  # it is what the test is about
        assert await lags.get() >= 0.2
    watching.cancel()
    await asyncio.wait([watching])
