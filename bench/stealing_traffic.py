"""The two kinds of traffic of `bench.stealing`: a burst of text, and images that come while text waits.

All of it is drawn from seeds, greedy, and of lengths that are given beforehand.
"""

import asyncio
import base64
import io
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession
from PIL import Image, ImageDraw

from bench.streams import Stream, Target, read, session
from chiasm.ask import chat_body

PROMPT = (8, 32)  # tokens of a question
ANSWER = (48, 144)  # tokens of an answer to a question without an image
IMAGE_ANSWER = 8  # tokens
SIDE = 224  # pixels: 64 image tokens
LETTERS = "abcdefghijklmnopqrstuvwxyz"

Body = Mapping[str, Any]


def question(dice: random.Random) -> Body:
    """Text alone."""
    return chat_body(None, [], _prompt(dice), max_tokens=dice.randint(*ANSWER), temperature=0)


def image_question(dice: random.Random) -> Body:
    """About one picture, which is another one each time."""
    picture = Image.new("RGB", (SIDE, SIDE), _colour(dice))
    draw = ImageDraw.Draw(picture)
    for _ in range(8):
        x, y = dice.randrange(SIDE), dice.randrange(SIDE)
        draw.rectangle((x, y, x + SIDE // 4, y + SIDE // 4), fill=_colour(dice))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return chat_body(None, [url], _prompt(dice), max_tokens=IMAGE_ANSWER, temperature=0)


def _prompt(dice: random.Random) -> str:
    return "".join(dice.choices(LETTERS, k=dice.randint(*PROMPT)))


def _colour(dice: random.Random) -> tuple[int, int, int]:
    return dice.randrange(256), dice.randrange(256), dice.randrange(256)


@dataclass(frozen=True)
class Burst:
    """What came of one."""

    tokens: int
    seconds: float  # from the first question to the last token

    @property
    def tokens_per_s(self) -> float:
        """Output tokens."""
        return self.tokens / self.seconds


async def burst(targets: Sequence[Target], bodies: Sequence[Body]) -> Burst:
    """Ask everything at once. With several targets, each question goes to the one that has least to generate so far.

    Raises:
        ExceptionGroup: of `Unanswered`.
    """
    owed = dict.fromkeys(targets, 0)
    streams = [Stream(0.0) for _ in bodies]
    begun = time.monotonic()
    async with session() as client, asyncio.TaskGroup() as group:
        for body, stream in zip(bodies, streams, strict=True):
            target = min(owed, key=owed.__getitem__)
            owed[target] += body["max_tokens"]
            group.create_task(read(client, target, body, stream))
    return Burst(sum(len(stream.tokens) for stream in streams), max(stream.tokens[-1] for stream in streams) - begun)


@dataclass(frozen=True)
class Mixture:
    """Images that come at random times, whoever waits, beside text streams that follow one another."""

    streams: int  # of text at any time
    images_per_s: float
    lead_in_s: float  # before anything is counted
    window_s: float  # counted

    def arrivals(self, dice: random.Random) -> list[float]:
        """When images come, in seconds from the beginning: a Poisson process."""
        times = [dice.expovariate(self.images_per_s)]
        while times[-1] < self.lead_in_s + self.window_s:
            times.append(times[-1] + dice.expovariate(self.images_per_s))
        return times[:-1]


@dataclass(frozen=True)
class Mixed:
    """What came of one mixture, in its window."""

    text_tokens_per_s: float
    text_itls_s: list[float]  # from one token of a text stream to its next, which came in it
    images: list[Stream]  # that were asked about in it


async def mixed(text: Target, images: Target, mixture: Mixture, seed: str) -> Mixed:
    """Let the mixture's traffic run; at its end text streams are broken off.

    Raises:
        ExceptionGroup: of `Unanswered`.
    """
    dice = random.Random(seed)
    arrivals = mixture.arrivals(dice)
    bodies = [image_question(dice) for _ in arrivals]
    texts: list[Stream] = []
    seen = [Stream(0.0) for _ in arrivals]
    async with session() as client, asyncio.TaskGroup() as group:
        begun = time.monotonic()
        lines = [random.Random(f"{seed} {number}") for number in range(mixture.streams)]
        background = [group.create_task(_keep_asking(client, text, line, texts)) for line in lines]
        asked = []
        for at, body, stream in zip(arrivals, bodies, seen, strict=True):
            await asyncio.sleep(max(0.0, begun + at - time.monotonic()))
            asked.append(group.create_task(read(client, images, body, stream)))
        await asyncio.gather(*asked)
        await asyncio.sleep(max(0.0, begun + mixture.lead_in_s + mixture.window_s - time.monotonic()))
        for task in background:
            task.cancel()
    opens = begun + mixture.lead_in_s
    closes = opens + mixture.window_s
    tokens = sum(opens <= at < closes for stream in texts for at in stream.tokens)
    pairs = [pair for stream in texts for pair in itertools.pairwise(stream.tokens)]
    itls_s = [later - earlier for earlier, later in pairs if opens <= later < closes]
    return Mixed(tokens / mixture.window_s, itls_s, [stream for stream in seen if stream.asked >= opens])


async def _keep_asking(client: ClientSession, target: Target, dice: random.Random, streams: list[Stream]) -> None:
    while True:
        streams.append(Stream(0.0))
        await read(client, target, question(dice), streams[-1])
