"""Prompts of an exact number of tokens, drawn from seeds. A chat template adds its own tokens to them."""

import random
import string
from typing import Any

from bench.load.asking import Endpoint
from chiasm.client import EndpointError, post_json

TRIES = 8
WORDS = (
    *("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state"),
    *("family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company", "system"),
    *("program", "question", "work", "number", "night", "point", "home", "water", "room", "mother", "area", "money"),
    *("story", "fact", "month", "lot", "right", "study", "book", "eye", "job", "word", "side", "kind", "head", "house"),
)


class NotTokenized(RuntimeError):
    """No text of so many tokens can be made; the message says why, and what to do."""


def text_of(tokens: int, dice: random.Random) -> str:
    """Of the bench model, whose vocabulary is bytes: one letter is one token. The built-in model's joins some."""
    return "".join(dice.choices(string.ascii_lowercase, k=tokens))


def text_for(endpoint: Endpoint, tokens: int, dice: random.Random) -> str:
    """For any vocabulary: common words, cut to so many tokens by the server's own tokenizer, and counted again.

    Raises:
        NotTokenized: the server has no `/tokenize` and `/detokenize`, or what it cuts never comes out even.
    """
    for _ in range(TRIES):
        enough = " ".join(dice.choices(WORDS, k=tokens))  # no word is less than a token
        cut = _call(endpoint, "/detokenize", "prompt", tokens=_tokens(endpoint, enough)[:tokens])
        if len(_tokens(endpoint, cut)) == tokens:
            return str(cut)
    raise NotTokenized(
        f"{endpoint.url} counts its own {tokens} tokens as another number, {TRIES} times over. Ask for another length."
    )


def _tokens(endpoint: Endpoint, text: str) -> list[int]:
    tokens: list[int] = _call(endpoint, "/tokenize", "tokens", prompt=text, add_special_tokens=False)
    return tokens


def _call(endpoint: Endpoint, path: str, wanted: str, **body: Any) -> Any:
    try:
        return post_json(endpoint.url, path, {"model": endpoint.model, **body}, endpoint.key)[0][wanted]
    except (EndpointError, LookupError, TypeError) as error:
        raise NotTokenized(
            f"cannot count tokens: {error}. That needs a server with vLLM's POST {path}; ask the engine itself."
        ) from error
