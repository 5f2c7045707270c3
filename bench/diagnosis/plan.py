"""What is sent to a server in order to diagnose it, and what load that is at most."""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.diagnosis.sizes import Sent, Size
from bench.load.pictures import picture
from bench.load.texts import WORDS
from bench.load.workloads import exactly
from chiasm.ask import chat_body

STREAMS = 4  # of text, beside the requests that carry something
ANSWER_S = 4.0  # about how long one answer of a stream takes
FEWEST_SWEEPS = 3  # an interval needs so many
QUESTION = "What is this?"

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured, at most."""

    limit_s: float  # for everything
    watch_s: float  # of it: before anything is sent, what others do
    pixels: tuple[float, ...]  # of the largest picture: the rungs of the ladder
    sweeps: int  # through the ladder, with pictures and with text
    bursts: tuple[int, ...]  # requests at once
    rounds: int  # of all bursts, with pictures and with text

    @property
    def most_at_once(self) -> int:
        """Requests."""
        return STREAMS + max(self.bursts)


FULL = Effort(300.0, 30.0, (1 / 8, 3 / 8, 5 / 8, 1.0), sweeps=10, bursts=(1, 2, 4, 8), rounds=5)
QUICK = Effort(50.0, 5.0, (1 / 8, 1 / 2, 1.0), sweeps=5, bursts=(1, 2, 4), rounds=3)


@dataclass(frozen=True)
class Rung:
    """What one request carries."""

    size: Size  # of each picture
    pictures: int
    tokens: int = 0  # that they add to a prompt, once that is known

    def __str__(self) -> str:
        times = "" if self.pictures == 1 else f"{self.pictures} of "
        return f"{times}{self.size[0]} x {self.size[1]}"


def by_size(effort: Effort, sent: Sent) -> tuple[Rung, ...]:
    """As many pictures as are sent, of growing sizes and equal proportions, up to the largest that is sent."""
    return tuple(Rung(scaled(sent.sizes[-1], share), sent.per_request) for share in effort.pixels)


def by_number(effort: Effort, sent: Sent) -> tuple[Rung, ...]:
    """More and more pictures a request, for models that make as many tokens of every size."""
    most = max(sent.per_request, len(effort.pixels))
    numbers = {sent.per_request, *(math.ceil(most * share) for share in effort.pixels)}
    return tuple(Rung(sent.sizes[-1], number) for number in sorted(numbers))


def scaled(size: Size, share: float) -> Size:
    """A picture of the same proportions with that share of the pixels."""
    width, height = (max(1, round(side * math.sqrt(share))) for side in size)
    return width, height


@dataclass(frozen=True)
class Load:
    """What a diagnosis sends at most."""

    requests: int  # beside the streams
    with_pictures: int
    pictures: int
    of_streams: int  # about


def load(effort: Effort, sent: Sent) -> Load:
    """Counted for whichever ladder has more pictures: both are tried where a model makes as many tokens of any size."""
    ladders = by_size(effort, sent), by_number(effort, sent)
    rungs = max(len(ladder) for ladder in ladders)
    a_ladder = max(sum(rung.pictures for rung in ladder) for ladder in ladders)
    bursts = effort.rounds * sum(effort.bursts)
    tried = sum(len(ladder) for ladder in ladders) + len(sent.sizes)
    once = sum(rung.pictures for ladder in ladders for rung in ladder) + len(sent.sizes)
    return Load(
        requests=3 + tried + 2 * effort.sweeps * rungs + 2 * bursts,
        with_pictures=tried + effort.sweeps * rungs + bursts,
        pictures=once + effort.sweeps * a_ladder + bursts * sent.per_request,
        of_streams=math.ceil(STREAMS * (effort.limit_s / ANSWER_S + 1)),
    )


def announced(effort: Effort, sent: Sent, url: str, rate: float | None, metrics: bool) -> Iterator[str]:
    """What a person should know before agreeing to it."""
    most = load(effort, sent)
    minutes = effort.limit_s / 60
    yield (
        f"This puts load on {url}: at most {most.requests} requests within {minutes:.1f} minutes, {most.with_pictures} "
        f"of them with pictures ({most.pictures} pictures in all), most of them one after the other; at the end "
        f"up to {max(effort.bursts)} at once. {STREAMS} streams of text run beside them all the while, so there are "
        f"never more than {effort.most_at_once} requests of ours."
    )
    yield (
        f"The streams are about {most.of_streams} requests more, and generate as fast as they are served: at 10 ms a "
        f"token that is {STREAMS * effort.limit_s / 0.01:,.0f} tokens."
    )
    yield (
        "All these pictures are new to the server, and take the place of your clients' in its encoder, processor and "
        "prefix caches. What your clients send again is then encoded and prefilled again."
    )
    if rate is not None:
        yield f"On average no more than {rate:g} requests a second are begun, without those of the streams."
    seen = "when requests wait at the server, are preempted, or fill its KV cache, "
    unseen = "Without metrics it cannot see whether requests wait at the server. "
    yield (
        f"{'' if metrics else unseen}It stops at the first error, {seen if metrics else ''}when the server answers "
        "several times more slowly than at first, and at Ctrl-C."
    )


def picture_body(carries: Rung, answer_tokens: int, dice: random.Random) -> Body:
    """A question about pictures, each of them new to every cache."""
    drawn = [picture(*carries.size, dice) for _ in range(carries.pictures)]
    return chat_body(None, drawn, QUESTION, **exactly(answer_tokens))


def text_body(words: int, dice: random.Random) -> Body:
    """The same question behind so many words in place of a picture, answered with a token."""
    return chat_body(None, [], " ".join([*dice.choices(WORDS, k=words), QUESTION]), **exactly(1))


def stream_body(answer_tokens: int, dice: random.Random) -> Body:
    """Text that is answered at length."""
    about = " ".join(dice.choices(WORDS, k=4))
    return chat_body(None, [], f"Tell a long story about: {about}.", **exactly(answer_tokens))
