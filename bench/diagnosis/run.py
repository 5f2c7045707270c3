"""The whole of a diagnosis, measured: what others do, the first requests, then the sweeps."""

import asyncio
import gc
import random
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from bench.diagnosis.asking import Asker, Server, Stopped
from bench.diagnosis.metrics import Page, Traffic, read, traffic
from bench.diagnosis.plan import Effort
from bench.diagnosis.probing import probe
from bench.diagnosis.sizes import Sent
from bench.diagnosis.sweeping import Measured, Sweeps
from bench.load.asking import new_session

METRICS_S = 10.0
RANK_HEADER = "X-data-parallel-rank"  # vLLM's: which of its engines is to have the request


@dataclass(frozen=True)
class Task:
    """What is to be measured. Of several engines whose metrics `page` has, the first is asked, and no other."""

    server: Server
    page: Page | None  # before anything was sent
    sent: Sent
    effort: Effort
    per_s: float | None  # requests that may be begun, see `Asker`
    seed: int

    @property
    def engine(self) -> str | None:
        """The label of the one that is asked; None: there is one only, as far as is known."""
        return self.page.engines[0] if self.page is not None and len(self.page.engines) > 1 else None


def metrics_of(server: Server) -> Page | None:
    """One reading of the server's metrics; None: it has none of vLLM's."""

    async def reading() -> Page | None:
        async with new_session(METRICS_S) as client:
            return await read(client, server.endpoint.url, server.endpoint.key)

    return asyncio.run(reading())


def measure(task: Task, say: Callable[[str], None], measured: Measured) -> None:
    """Ask everything, and note it in `measured`, which holds what there is however this ends. `say` hears what is done.

    Raises:
        Stopped: see there.
    """
    gc.collect()
    gc.freeze()  # what is imported need not be looked through while the clock is read
    try:
        asyncio.run(_measure(task, say, measured))
    except ExceptionGroup as group:
        raise _first_of(group) from None
    finally:
        gc.unfreeze()


async def _measure(task: Task, say: Callable[[str], None], measured: Measured) -> None:
    limit_s, dice = task.effort.limit_s, random.Random(task.seed)
    async with new_session(limit_s, None if task.engine is None else {RANK_HEADER: "0"}) as client:
        asker = Asker(client, task.server.endpoint, task.per_s, task.engine)
        try:
            async with asyncio.timeout(limit_s):
                if task.page is not None:
                    say(f"what others do, for {task.effort.watch_s:g} s")
                    measured.traffic = await _watched(client, task)
                measured.known = await probe(asker, task.effort, task.sent, dice, say)
        except TimeoutError as error:
            raise Stopped(
                f"The first requests alone, one after another, took {limit_s / 60:.1f} minutes. Give it more "
                "time (--minutes), name smaller --sizes, or allow a higher --rate."
            ) from error
        sweeps = Sweeps(asker, task.effort, measured.known, task.server.longest, dice, say, measured)
        await sweeps.run(limit_s)


async def _watched(client: aiohttp.ClientSession, task: Task) -> Traffic | None:
    url, key = task.server.endpoint.url, task.server.endpoint.key
    before = await read(client, url, key)
    await asyncio.sleep(task.effort.watch_s)
    after = await read(client, url, key)
    return traffic(before, after, task.effort.watch_s) if before is not None and after is not None else None


def _first_of(error: BaseException) -> BaseException:
    """What ended the requests that ran at one time."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
