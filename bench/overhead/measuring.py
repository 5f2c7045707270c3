"""The same traffic on both ways in turn: requests one at a time, in pairs, and bursts."""

import asyncio
import random
import time
from collections.abc import Sequence

from aiohttp import ClientSession

from bench.load.answers import Answer
from bench.load.asking import Endpoint, Planned, ask, new_session
from bench.load.driver import drive
from bench.overhead.plan import ANSWER_TOKENS, SINGLES, WARM_UP_PAIRS, WARM_UP_TOKENS, Traffic, burst, dice_for, single
from bench.overhead.ways import Ways
from bench.streams import Unanswered

TIMEOUT_S = 600.0

Pair = tuple[Answer, Answer]
"""Through the gateway, and directly."""


def warm_up(ways: Ways, traffic: Traffic, burst_size: int, nonce: str) -> None:
    """What does not count: some pairs, or a burst as large as those to come, since the first one of a size is slower.

    Raises:
        Unanswered: a request failed.
    """
    if traffic in SINGLES:
        pairs(ways, traffic, WARM_UP_PAIRS, 0, nonce, WARM_UP_TOKENS)
    else:
        bursts(ways, burst_size, (WARM_UP_TOKENS, WARM_UP_TOKENS), 0, nonce)


def pairs(
    ways: Ways, traffic: Traffic, count: int, block: int, nonce: str, answer_tokens: int = ANSWER_TOKENS
) -> list[Pair]:
    """So many pairs, one request at a time; a coin decides which way is taken first.

    Raises:
        Unanswered: a request failed.
    """
    dice = dice_for(f"{traffic} {block}", nonce)
    planned = [(single(traffic, answer_tokens, dice), single(traffic, answer_tokens, dice)) for _ in range(count)]
    return asyncio.run(_pairs(ways, planned, dice))


async def _pairs(ways: Ways, planned: Sequence[tuple[Planned, Planned]], dice: random.Random) -> list[Pair]:
    found = []
    async with new_session(TIMEOUT_S) as client:  # connections stay open, as those of a busy client do
        for through, directly in planned:
            if dice.random() < 0.5:
                first = await _answer(client, ways.gateway, through)
                found.append((first, await _answer(client, ways.direct, directly)))
            else:
                first = await _answer(client, ways.direct, directly)
                found.append((await _answer(client, ways.gateway, through), first))
    return found


async def _answer(client: ClientSession, endpoint: Endpoint, planned: Planned) -> Answer:
    return _complete(await ask(client, endpoint, planned, 0, time.monotonic()))


def bursts(
    ways: Ways, count: int, lengths: tuple[int, int], block: int, nonce: str
) -> tuple[list[Answer], list[Answer]]:
    """A burst through the gateway, and one directly: in blocks of odd numbers first, in others last.

    Raises:
        Unanswered: a request failed.
    """
    dice = dice_for(f"burst {block}", nonce)
    sides = [(endpoint, burst(count, lengths, dice, str(block))) for endpoint in (ways.gateway, ways.direct)]
    found = {}
    for endpoint, planned in sides if block % 2 else reversed(sides):
        found[endpoint] = [_complete(answer) for answer in drive(endpoint, planned, timeout_s=TIMEOUT_S)]
    return found[ways.gateway], found[ways.direct]


def _complete(answer: Answer) -> Answer:
    if answer.error is not None:
        raise Unanswered(answer.error)
    return answer
