"""Sends a plan, open loop: each request when it is due, whatever has become of the others.

So a slow endpoint is not spared: what piles up before it is measured, as users' requests would pile up. Unless so
many at most are let through at a time: then what is due waits here, and is sent late.
"""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned, encoded, new_session, send

__all__ = ["Planned", "drive"]


def drive(
    endpoint: Endpoint,
    planned: Sequence[Planned],
    *,
    timeout_s: float = 600.0,
    at_a_time: int | None = None,
    on_answer: Callable[[Answer], None] | None = None,
) -> list[Answer]:
    """The answers, in the plan's order, when the last has come; `on_answer` is told of each as it ends.

    No more than so many `at_a_time` are under way, if that is given.

    Everything is serialised before the clock starts. A request that fails, or takes longer than `timeout_s`, is an
    answer with an error. An interrupt ends all requests that are under way, and is raised.
    """
    bodies = [encoded(endpoint, each) for each in planned]
    with _no_collection_of_what_is_there():
        return asyncio.run(_drive(endpoint, planned, bodies, timeout_s, at_a_time, on_answer))


async def _drive(
    endpoint: Endpoint,
    planned: Sequence[Planned],
    bodies: Sequence[bytes],
    timeout_s: float,
    at_a_time: int | None,
    on_answer: Callable[[Answer], None] | None,
) -> list[Answer]:
    slots = nullcontext() if at_a_time is None else asyncio.Semaphore(at_a_time)
    async with new_session(timeout_s) as client, asyncio.TaskGroup() as group:
        began = time.monotonic()

        async def one(number: int) -> Answer:
            async with slots:
                answer = await send(client, endpoint, bodies[number], planned[number], number, began)
            if on_answer is not None:
                on_answer(answer)
            return answer

        tasks = {}
        for number in sorted(range(len(planned)), key=lambda number: planned[number].due_s):
            await asyncio.sleep(max(0.0, began + planned[number].due_s - time.monotonic()))
            tasks[number] = group.create_task(one(number))
    return [tasks[number].result() for number in range(len(planned))]


@contextmanager
def _no_collection_of_what_is_there() -> Iterator[None]:
    """Python's collector would stop the clock's reader for tens of milliseconds, to look at all that is imported."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
