"""The requests that carriers and bystanders send. Greedy, of exact lengths, and no two prompts begin alike."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.itl.plan import SEED, Kind, Load
from bench.load.pictures import picture
from bench.load.texts import text_of
from bench.load.workloads import exactly

LETTERS = 24  # that a prompt begins with: another text each time, so that no prefix cache has any of it

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Texts:
    """What text of as many tokens as pictures have is made of, as a warm-up has found."""

    added: Mapping[Load, int]  # prompt tokens that a load adds
    tokens_per_letter: float

    def letters(self, load: Load) -> int:
        """So many random letters are about as many tokens."""
        return round(self.added[load] / self.tokens_per_letter)


def bystander(tokens: int, dice: random.Random) -> Body:
    """Text alone; its answer has so many tokens."""
    return _body(text_of(LETTERS, dice), tokens)


def carrier(kind: Kind, load: Load, tokens: int, texts: Texts, dice: random.Random) -> Body:
    """With that load; its answer has so many tokens."""
    if not load.pictures:
        return bystander(tokens, dice)
    if kind is Kind.TEXT:
        return lettered(texts.letters(load), tokens, dice)
    pictures = held_pictures(load) if kind is Kind.ENCODED else [_picture(load, dice) for _ in range(load.pictures)]
    return with_pictures(pictures, tokens, dice)


def lettered(letters: int, tokens: int, dice: random.Random) -> Body:
    """A bystander's with so many letters more."""
    return _body(text_of(LETTERS + letters, dice), tokens)


def held_pictures(load: Load) -> list[str]:
    """The same ones each time, so that their embeddings can be there already."""
    dice = random.Random(f"{SEED} held {load}")
    return [_picture(load, dice) for _ in range(load.pictures)]


def with_pictures(pictures: list[str], tokens: int, dice: random.Random) -> Body:
    """The text comes first: a prefix of the prompt that begins with a known picture might be cached."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": text_of(LETTERS, dice)}]
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    return _body(parts, tokens)


def _picture(load: Load, dice: random.Random) -> str:
    return picture(load.side, load.side, dice)


def _body(content: str | list[dict[str, Any]], tokens: int) -> Body:
    return {"messages": [{"role": "user", "content": content}], **exactly(tokens)}
