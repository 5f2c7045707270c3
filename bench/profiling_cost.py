"""What profiling costs, and how well its phases add up: two clusters that differ in nothing but `telemetry.timelines`.

Both are up all the time, on the same two cores, and are asked in turn; the first of each pair is the second of the
next, so that neither always comes first.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession

from bench.percentiles import percentile
from bench.stealing_sides import TEXT_KEY, Cluster
from bench.stealing_traffic import burst, image_question, question
from bench.streams import Target, session
from chiasm.api_paths import CHAT_PATH

SEED = 1
TEXTS, IMAGES = 16, 8  # in a burst
AT_ONCE = 4  # requests whose phases are added up


@dataclass(frozen=True)
class Cost:
    """Output tokens/s of bursts, pair by pair."""

    on: list[float]
    off: list[float]

    @property
    def ratio(self) -> float:
        """Throughput with profiling to without: the median over the pairs."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """Of each pair."""
        return [with_it / without for with_it, without in zip(self.on, self.off, strict=True)]


def measure_cost(on: Cluster, off: Cluster, pairs: int, advance: Callable[[], None]) -> Cost:
    """Bursts of text and images: a pair is the same burst, asked of both; `advance` is called after each pair.

    Raises:
        ExceptionGroup: of `Unanswered`.
    """
    cost = Cost([], [])
    for number in range(pairs):
        sides = [(on, cost.on), (off, cost.off)]
        for cluster, rates in sides if number % 2 else reversed(sides):
            rates.append(asyncio.run(burst([cluster.target(TEXT_KEY)], _bodies(number))).tokens_per_s)
        advance()
    return cost


def _bodies(number: int) -> list[Any]:
    dice = random.Random(f"{SEED}, burst {number}")
    bodies = [question(dice) for _ in range(TEXTS)] + [image_question(dice) for _ in range(IMAGES)]
    dice.shuffle(bodies)
    return bodies


@dataclass(frozen=True)
class Added:
    """One request's time: as its client measured it, as its phases have it, and what no phase accounts for."""

    waited_s: float
    phases_s: dict[str, float]
    unattributed_s: float

    @property
    def error(self) -> float:
        """What the phases are short of, or beyond, as a part of what the client waited."""
        return abs(sum(self.phases_s.values()) - self.waited_s) / self.waited_s


def add_up(cluster: Cluster, requests: int, advance: Callable[[], None]) -> list[Added]:
    """Requests about pictures, some at once, and their timelines; `advance` is called after each.

    Raises:
        aiohttp.ClientError: no answer.
    """
    return asyncio.run(_add_up(cluster.target(TEXT_KEY), requests, advance))


async def _add_up(target: Target, requests: int, advance: Callable[[], None]) -> list[Added]:
    dice = random.Random(f"{SEED}, sums")
    room = asyncio.Semaphore(AT_ONCE)

    async def ask(client: ClientSession, body: Any) -> Added:
        async with room:
            added = await _ask(client, target, body)
        advance()
        return added

    async with session() as client:
        return list(await asyncio.gather(*(ask(client, image_question(dice)) for _ in range(requests))))


async def _ask(client: ClientSession, target: Target, body: Any) -> Added:
    headers = {"Authorization": f"Bearer {target.key}"}
    asked = time.monotonic()
    async with client.post(target.url + CHAT_PATH, json=body, headers=headers, raise_for_status=True) as answer:
        await answer.read()
        waited, request = time.monotonic() - asked, answer.headers["X-Request-Id"]
    async with client.get(f"{target.url}/v1/chiasm/requests/{request}", headers=headers, raise_for_status=True) as told:
        timeline = await told.json()
    return Added(waited, timeline["self_seconds"], timeline["unattributed_seconds"])


def sum_error(added: Sequence[Added]) -> float:
    """The error that 95 % of the requests do not exceed."""
    return percentile([one.error for one in added], 0.95)
