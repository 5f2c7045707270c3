"""What is sent to a server in order to diagnose it, and what load that is at most. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bench.diagnosis.sizes import Size

STREAMS = 4  # of text, beside the requests that carry something
FEWEST_SWEEPS = 3  # an interval needs so many


@dataclass(frozen=True)
class Effort:
    """How much is measured, at most."""

    limit_s: float  # for everything
    pixels: tuple[float, ...]  # of the largest picture: the rungs of the ladder
    sweeps: int  # through the ladder, with pictures and with text
    bursts: tuple[int, ...]  # pictures at once
    rounds: int  # of all bursts

    @property
    def most_at_once(self) -> int:
        """Requests."""
        return STREAMS + max(self.bursts)


FULL = Effort(300.0, (1 / 8, 3 / 8, 5 / 8, 1.0), sweeps=10, bursts=(1, 2, 4, 8), rounds=6)
QUICK = Effort(50.0, (1 / 8, 1 / 2, 1.0), sweeps=5, bursts=(1, 2, 4), rounds=3)


@dataclass(frozen=True)
class Rung:
    """What one request carries."""

    size: Size  # of each picture
    pictures: int
    tokens: int = 0  # that they add to a prompt, once that is known


def by_size(effort: Effort, largest: Size) -> tuple[Rung, ...]:
    """One picture a request, of growing sizes and equal proportions, up to the largest that is sent."""
    return tuple(Rung(scaled(largest, share), 1) for share in effort.pixels)


def by_number(effort: Effort, size: Size) -> tuple[Rung, ...]:
    """More and more pictures a request, for models that make as many tokens of every size."""
    return tuple(Rung(size, number) for number in range(1, len(effort.pixels) + 1))


def scaled(size: Size, share: float) -> Size:
    """A picture of the same proportions with that share of the pixels."""
    width, height = (max(1, round(side * math.sqrt(share))) for side in size)
    return width, height


@dataclass(frozen=True)
class Load:
    """What a diagnosis sends at most, beside the streams."""

    requests: int
    with_pictures: int
    pictures: int


def load(effort: Effort, sizes: int) -> Load:
    """Of a diagnosis over so many sizes. For models that are loaded by the number of pictures, which is more."""
    rungs = len(effort.pixels)
    a_ladder = sum(range(1, rungs + 1))
    bursts = effort.rounds * sum(effort.bursts)
    alone = rungs + rungs + sizes  # a ladder of sizes, perhaps one of numbers, and each size that is sent
    return Load(
        requests=3 + alone + 2 * effort.sweeps * rungs + bursts,
        with_pictures=alone + effort.sweeps * rungs + bursts,
        pictures=rungs + a_ladder + sizes + effort.sweeps * a_ladder + bursts,
    )


def announced(effort: Effort, sizes: int, url: str, rate: float | None) -> Iterator[str]:
    """What a person should know before agreeing to it."""
    most = load(effort, sizes)
    minutes = effort.limit_s / 60
    yield (
        f"This puts load on {url}: at most {most.requests} requests within {minutes:.1f} minutes, {most.with_pictures} "
        f"of them with pictures ({most.pictures} pictures in all), most of them one after the other; at the end "
        f"up to {max(effort.bursts)} at once. {STREAMS} streams of text run beside them all the while, so there are "
        f"never more than {effort.most_at_once} requests of ours."
    )
    if rate is not None:
        yield f"On average no more than {rate:g} requests a second are begun, without those of the streams."
    yield "It stops at the first error, when requests pile up at the server, and at Ctrl-C."
