"""What is asked of the server: a picture, a text of as many tokens (its control), and the streams beside them."""

import random
from collections.abc import Mapping
from typing import Any

from bench.load.pictures import picture
from bench.load.texts import WORDS
from bench.load.workloads import exactly
from chiasm.ask import chat_body

QUESTION = "What is this?"

Body = Mapping[str, Any]


def picture_body(size: tuple[int, int], pictures: int, answer_tokens: int, dice: random.Random) -> Body:
    """A question about so many pictures of one size, each of them new to every cache; none: the question alone."""
    drawn = [picture(*size, dice) for _ in range(pictures)]
    return chat_body(None, drawn, QUESTION, **exactly(answer_tokens))


def text_body(words: int, answer_tokens: int, dice: random.Random) -> Body:
    """The same question behind so many words in place of a picture."""
    return chat_body(None, [], " ".join([*dice.choices(WORDS, k=words), QUESTION]), **exactly(answer_tokens))


def stream_body(answer_tokens: int, dice: random.Random) -> Body:
    """Text that is answered at length."""
    about = " ".join(dice.choices(WORDS, k=4))
    return chat_body(None, [], f"Tell a long story about: {about}.", **exactly(answer_tokens))
