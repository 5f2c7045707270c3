"""The whole of a diagnosis, measured: the first requests, then the sweeps."""

import asyncio
import gc
import random
from collections.abc import Callable
from dataclasses import dataclass

from bench.diagnosis.careful import Asker, Stopped
from bench.diagnosis.metrics import Page, read
from bench.diagnosis.plan import Effort
from bench.diagnosis.probing import Known, probe
from bench.diagnosis.server import Server
from bench.diagnosis.sizes import Sent
from bench.diagnosis.sweeping import Measured, Sweeps
from bench.load.asking import new_session


@dataclass(frozen=True)
class Diagnosis:
    """What was measured."""

    known: Known
    measured: Measured


def metrics_of(server: Server) -> Page | None:
    """One reading of the server's metrics; None: it has none of vLLM's."""

    async def reading() -> Page | None:
        async with new_session(timeout_s=10.0) as client:
            return await read(client, server.endpoint.url, server.endpoint.key)

    return asyncio.run(reading())


def measure(
    server: Server, sent: Sent, effort: Effort, per_s: float | None, seed: int, say: Callable[[str], None]
) -> Diagnosis:
    """Ask everything. `per_s`: see `Asker`. `say` hears what is being done.

    Raises:
        Stopped: see there.
    """
    gc.collect()
    gc.freeze()  # what is imported need not be looked through while the clock is read
    try:
        return asyncio.run(_measure(server, sent, effort, per_s, random.Random(seed), say))
    except ExceptionGroup as group:
        raise _stopped(group) from None


async def _measure(
    server: Server, sent: Sent, effort: Effort, per_s: float | None, dice: random.Random, say: Callable[[str], None]
) -> Diagnosis:
    async with new_session(effort.limit_s) as client:
        asker = Asker(client, server.endpoint, per_s)
        try:
            async with asyncio.timeout(effort.limit_s):
                known = await probe(asker, effort, sent.sizes, dice, say)
        except TimeoutError as error:
            raise Stopped(
                f"The first requests alone, one after another, took {effort.limit_s / 60:.1f} minutes. Give it more "
                "time (--minutes), name smaller --sizes, or allow a higher --rate."
            ) from error
        sweeps = Sweeps(asker, effort, known, server.longest, dice, say)
        await sweeps.run(effort.limit_s)
        return Diagnosis(known, sweeps.measured)


def _stopped(error: BaseException) -> BaseException:
    """The first of what ended the requests that ran at one time."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
