"""What is asked of each cluster, and how often.

Every request has a text, and a picture, that no other has: else the second of a pair would find the first one's work in
the engine's caches.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.load.asking import Planned
from bench.load.pictures import picture
from bench.load.texts import text_of
from bench.load.workloads import exactly, kind_of
from chiasm.ask import chat_body

SEED = 1
PROMPT_LETTERS = 24  # as many tokens of the bench model; the built-in one joins some
ANSWER_TOKENS = 48  # of requests that come one at a time
SIDE = 196  # pixels: 49 image tokens, the most that the built-in model takes
WARM_UP_PAIRS, WARM_UP_TOKENS = 4, 16  # and the length of each answer, there and in a burst


class Traffic(StrEnum):
    """What is asked, as the series names it."""

    TEXT = "text"  # one request at a time
    IMAGES = "images"  # likewise, each with a picture
    SMALL_BURST = "burst, small model"  # text, all at once, more than the engine runs
    BURST = "burst"  # the same, of a model that keeps its core busy


SINGLES = (Traffic.TEXT, Traffic.IMAGES)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    blocks: int  # of each kind of traffic
    pairs: int  # of requests in a block, where they come one at a time
    per_slot: int  # requests in a burst, for each that the engine runs at once
    lengths: tuple[int, int]  # of answers in a burst, in tokens: evenly spread between these


FULL = Plan(blocks=5, pairs=16, per_slot=2, lengths=(32, 96))
QUICK = Plan(blocks=3, pairs=4, per_slot=1, lengths=(8, 24))


def dice_for(of: str, nonce: str) -> random.Random:
    """Another `nonce` draws other texts and pictures: a cluster that runs for long remembers what it was asked."""
    return random.Random(f"{SEED} {nonce} {of}")


def single(traffic: Traffic, answer_tokens: int, dice: random.Random) -> Planned:
    """One of a pair."""
    return _request(int(traffic is Traffic.IMAGES), answer_tokens, dice)


def burst(count: int, lengths: tuple[int, int], dice: random.Random, order: str) -> Sequence[Planned]:
    """All due at once. The same `order` gives answers of the same lengths in the same order, whatever the texts are."""
    least, most = lengths
    answers = [least + (most - least) * number // max(1, count - 1) for number in range(count)]
    random.Random(order).shuffle(answers)
    return [_request(0, length, dice) for length in answers]


def _request(images: int, answer_tokens: int, dice: random.Random) -> Planned:
    pictures = [picture(SIDE, SIDE, dice) for _ in range(images)]
    body = chat_body(None, pictures, text_of(PROMPT_LETTERS, dice), **exactly(answer_tokens))
    return Planned(0.0, kind_of(images), body)
