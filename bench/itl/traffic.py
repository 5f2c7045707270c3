"""Sends a drive: carriers when they are due, whatever has become of the others, and bystanders one after the other.

Bystanders that go on when the last slot ends are broken off, so that no drive has to wait for them.
"""

import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import aiohttp
import msgspec

from bench.itl.bodies import Texts, bystander, carrier
from bench.itl.plan import BYSTANDER_TOKENS, LEAD_IN_S, Drive, Slot
from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned, ask, encoded, new_session, send

BYSTANDER = "bystander"
TIMEOUT_S = 300.0  # for one request
REST_S = 1.0  # before another bystander comes where one has failed

Tell = Callable[[Answer], None]


def is_bystander(answer: Answer) -> bool:
    """Else it is a carrier, and its kind the name of its slot."""
    return answer.kind.startswith(BYSTANDER)


def carriers(drive: Drive, slots: Sequence[Slot], texts: Texts, dice: random.Random) -> list[Planned]:
    """Those of these slots, in the order in which they are due."""
    return [
        Planned(
            LEAD_IN_S + drive.slot_s * number,
            slot.name,
            carrier(slot.kind, slot.load, drive.answer_tokens, texts, dice),
        )
        for number, slot in enumerate(slots)
        for _ in range(slot.carriers)
    ]


def run(
    endpoint: Endpoint, streams: int, planned: Sequence[Planned], end_s: float | None, dice: random.Random, tell: Tell
) -> list[Answer]:
    """The answers of carriers, in the plan's order, and those of `streams` bystanders at a time until `end_s` seconds,
    or up to one more. Where that is None, bystanders run until all carriers are answered, and are not told of.

    The kind of a bystander is `BYSTANDER` and the number of its line: in each line one comes as the one before is
    through. The last of each is broken off, and `ok` with what it had by then. A carrier is answered to its end. `tell`
    is told of each answer as it ends.
    """
    with _no_collection_of_what_is_there():
        return asyncio.run(_Traffic(endpoint, end_s, dice, tell).run(streams, planned))


class _Traffic:
    """One drive."""

    def __init__(self, endpoint: Endpoint, end_s: float | None, dice: random.Random, tell: Tell) -> None:
        self._endpoint = endpoint
        self._end_s = end_s
        self._dice = dice
        self._tell = tell
        self._began = 0.0

    async def run(self, streams: int, planned: Sequence[Planned]) -> list[Answer]:
        bodies = [encoded(self._endpoint, each) for each in planned]
        async with new_session(TIMEOUT_S) as client, asyncio.TaskGroup() as group:
            self._began = time.monotonic()
            lines = [group.create_task(self._line(number, streams)) for number in range(streams)]
            come = []
            for number, (each, body) in enumerate(zip(planned, bodies, strict=True)):
                await asyncio.sleep(max(0.0, each.due_s - self._now_s()))
                come.append(group.create_task(self._carrier(client, body, each, number)))
            if self._end_s is None:
                await asyncio.wait(come)
                for line in lines:
                    line.cancel()
        beside = [answer for line in lines if not line.cancelled() for answer in line.result()]
        return [task.result() for task in come] + beside

    def _now_s(self) -> float:
        return time.monotonic() - self._began

    async def _carrier(self, client: aiohttp.ClientSession, body: bytes, planned: Planned, number: int) -> Answer:
        answer = await send(client, self._endpoint, body, planned, number, self._began)
        self._tell(answer)
        return answer

    async def _line(self, number: int, of: int) -> list[Answer]:
        """The first answers are of different lengths, so that later ones do not all come at once."""
        tokens, found = round(BYSTANDER_TOKENS * (number + 1) / of), []
        while (left_s := TIMEOUT_S if self._end_s is None else self._end_s - self._now_s()) > 0:
            planned = Planned(self._now_s(), f"{BYSTANDER} {number + 1}", bystander(tokens, self._dice))
            async with new_session(left_s) as client:
                answer = await ask(client, self._endpoint, planned, number, self._began)
            if self._end_s is not None and answer.ended_s >= self._end_s:
                answer = msgspec.structs.replace(answer, error=None)  # it was to be broken off
            self._tell(answer)
            if answer.chunks_s or not answer.ok:
                found.append(answer)
            if not answer.ok:
                await asyncio.sleep(REST_S)
            tokens = BYSTANDER_TOKENS
        return found


@contextmanager
def _no_collection_of_what_is_there() -> Iterator[None]:
    """Python's collector would stop the clock's reader for tens of milliseconds, to look at all that is imported."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
