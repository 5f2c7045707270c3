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


Measure = Callable[[Engine], Capacity]
"""Asks an engine that is ready."""


def of_generator(engine_args: Sequence[str]) -> Measure:
    """For an engine with a language model and these arguments.

    Raises:
        ValueError: `--max-num-seqs` without a number.
    """
    slots = slots_of(engine_args)
    return lambda engine: Capacity(slots, engine.kv_cache_tokens(), SEED_TOKENS_PER_S)


def slots_of(engine_args: Sequence[str]) -> int:
    """Requests the engine runs at once, as its arguments set it.

    Raises:
        ValueError: `--max-num-seqs` without a number.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--max-num-seqs", "--max_num_seqs", type=int, default=DEFAULT_SLOTS)
    try:
        slots: int = parser.parse_known_args(list(engine_args))[0].max_num_seqs
    except argparse.ArgumentError as error:
        raise ValueError(f"engine arguments: {error}") from error
    return slots
