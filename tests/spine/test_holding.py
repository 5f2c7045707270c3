"""An engine is held and let go as was wanted last, one call after the other."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import cast

import pytest

from chiasm.engine import Engine, EngineFailed
from chiasm.holding import Holding

PATIENCE_S = 10.0


class FakeEngine:
    """Notes how it is held; each call waits for one `allow`."""

    def __init__(self) -> None:
        self.calls: list[bool] = []
        self.failure: EngineFailed | None = None
        self._allowed = threading.Semaphore(0)
        self._begun = threading.Semaphore(0)
        self._ended = threading.Semaphore(0)

    def hold(self, held: bool, since: float) -> None:
        assert time.time() - PATIENCE_S < since <= time.time()
        self.calls.append(held)
        self._begun.release()
        assert self._allowed.acquire(timeout=PATIENCE_S)
        self._ended.release()
        if self.failure is not None:
            raise self.failure

    async def begun(self) -> None:
        """A call is under way."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=PATIENCE_S)

    async def finish(self) -> None:
        """Lets the call that is under way come to its end."""
        self._allowed.release()
        assert await asyncio.to_thread(self._ended.acquire, timeout=PATIENCE_S)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def holding(engine: FakeEngine) -> AsyncIterator[Holding]:
    holding = Holding(cast("Engine", engine))
    keeping = asyncio.create_task(holding.keep())
    yield holding
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_an_engine_is_held_and_let_go(holding: Holding, engine: FakeEngine) -> None:
    for held in (True, False, True):
        holding.want(held)
        await engine.begun()
        await engine.finish()
    assert engine.calls == [True, False, True]


async def test_a_resume_that_comes_while_the_pause_is_under_way_follows_it(
    holding: Holding, engine: FakeEngine
) -> None:
    holding.want(True)
    await engine.begun()
    holding.want(False)
    await asyncio.sleep(0)
    assert engine.calls == [True]  # none overtakes the other
    await engine.finish()
    await engine.begun()
    await engine.finish()
    assert engine.calls == [True, False]


async def test_what_is_no_longer_wanted_is_left_out(holding: Holding, engine: FakeEngine) -> None:
    holding.want(True)
    await engine.begun()
    for held in (False, True, False, True):
        holding.want(held)
    await engine.finish()
    holding.want(False)
    await engine.begun()
    await engine.finish()
    assert engine.calls == [True, False]


async def test_an_engine_that_is_not_held_is_not_let_go(holding: Holding, engine: FakeEngine) -> None:
    holding.want(False)
    holding.want(True)
    await engine.begun()
    await engine.finish()
    assert engine.calls == [True]


async def test_an_engine_that_does_not_obey_has_failed(engine: FakeEngine) -> None:
    holding = Holding(cast("Engine", engine))
    engine.failure = EngineFailed("no answer")
    holding.want(True)
    keeping = asyncio.create_task(holding.keep())
    await engine.begun()
    await engine.finish()
    with pytest.raises(EngineFailed, match="no answer"):
        await keeping
