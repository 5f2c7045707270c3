"""What a ready engine can take, as its worker reports it. Must not import Ray."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chiasm.engine import Engine

SEED_TOKENS_PER_S = 100.0  # output tokens/s until the first answers are measured
DEFAULT_SLOTS = 128  # where --max-num-seqs sets none: below vLLM's own defaults, so nothing queues inside


@dataclass(frozen=True)
class Capacity:
    """See `messages.Register`."""

    slots: int
    kv_tokens: int
    tokens_per_s: float
    store_bytes: int = 0
    prefill_tokens: int = 0  # of prompts, in one step beside running streams; 0 where nobody has bounded them


Measure = Callable[[Engine], Capacity]
"""Asks an engine that is ready."""


def of_generator(engine_args: Sequence[str]) -> Measure:
    """For an engine with a language model and these arguments.

    Raises:
        ValueError: see `slots_of`.
    """
    slots = slots_of(engine_args)
    return lambda engine: Capacity(slots, engine.kv_cache_tokens(), SEED_TOKENS_PER_S)


def slots_of(engine_args: Sequence[str]) -> int:
    """Requests the engine runs at once, as its arguments set it: a step has at least a token for each.

    Raises:
        ValueError: `--max-num-seqs` or `--max-num-batched-tokens` without a number.
    """
    slots = number_of(engine_args, "--max-num-seqs") or DEFAULT_SLOTS
    return min(slots, number_of(engine_args, "--max-num-batched-tokens") or slots)


def number_of(engine_args: Sequence[str], flag: str) -> int | None:
    """The whole number that these arguments give for `flag`; None if they do not.

    Raises:
        ValueError: `flag` without a number.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(flag, "--" + flag.removeprefix("--").replace("-", "_"), type=int, dest="number")
    try:
        number: int | None = parser.parse_known_args(list(engine_args))[0].number
    except argparse.ArgumentError as error:
        raise ValueError(f"engine arguments: {error}") from error
    return number
