"""What is asked: chat bodies with text and pictures, drawn from a seed, so that all who are compared get the same."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bench.load.pictures import picture
from bench.load.texts import text_of
from chiasm.ask import chat_body

Bodies = list[tuple[str, Mapping[str, Any]]]
"""Kind and body of each request; the body has neither model nor stream."""

Text = Callable[[int, random.Random], str]
"""Makes a prompt of so many tokens of the served model."""


class BadWorkload(ValueError):
    """A workload cannot be made of what was given; the message names cause and cure."""


class Workload(Protocol):
    """A source of requests."""

    @property
    def name(self) -> str:
        """As reports call it."""
        ...

    def bodies(self, count: int, dice: random.Random) -> Bodies:
        """So many requests, in the order in which they are to be sent; the same for the same state of `dice`."""
        ...


@dataclass(frozen=True)
class Mixed:
    """Requests whose counts and lengths lie evenly between two bounds, both included.

    Each picture is another one, so that no cache has it. Answers have exactly the length that was drawn.
    """

    name: str
    images: tuple[int, int]  # of one request
    sides: tuple[tuple[int, int], ...]  # pixels, width and height; each picture has any of these
    prompt_tokens: tuple[int, int]  # of the text
    output_tokens: tuple[int, int]
    text: Text = text_of

    def bodies(self, count: int, dice: random.Random) -> Bodies:
        """Kinds are as `kind_of` names them."""
        return [self._request(dice) for _ in range(count)]

    def _request(self, dice: random.Random) -> tuple[str, Mapping[str, Any]]:
        pictures = [picture(*dice.choice(self.sides), dice) for _ in range(dice.randint(*self.images))]
        prompt = self.text(dice.randint(*self.prompt_tokens), dice)
        length = dice.randint(*self.output_tokens)
        return kind_of(len(pictures)), chat_body(None, pictures, prompt, **exactly(length))


def kind_of(images: int) -> str:
    """`text`, `1img`, `2img`, …"""
    return f"{images}img" if images else "text"


def exactly(tokens: int) -> dict[str, Any]:
    """The fields of a body that make an answer so long, whatever it says. `ignore_eos` is an extension of vLLM's."""
    return {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}


# Qwen2.5-VL makes a token of 28 x 28 pixels: these are 64 to 256 tokens, so that eight and their text stay in 2,304.
SIDES = ((224, 224), (336, 336), (336, 448), (448, 336), (448, 448))


def _mix(name: str, least: int, most: int) -> Mixed:
    return Mixed(name, (least, most), SIDES, prompt_tokens=(16, 64), output_tokens=(32, 96))


MIXES: Mapping[str, Mixed] = {
    mix.name: mix
    for mix in (
        _mix("text", 0, 0),
        _mix("1img", 1, 1),
        _mix("2img", 2, 2),
        _mix("4img", 4, 4),
        _mix("8img", 8, 8),
        _mix("mixed", 0, 4),
    )
}
"""All but for the number of their pictures alike. In `mixed` each number from none to four is equally frequent."""
