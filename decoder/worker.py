"""The decoder worker: owns one engine that has a language model and no vision tower."""

import argparse
from collections.abc import Callable

from chiasm.engine import Engine
from chiasm.membership import Membership
from chiasm.nouns import Role
from chiasm.supervisor import Capacity
from chiasm.worker import Worker

SEED_TOKENS_PER_S = 100.0  # output tokens/s until the first answers are measured
DEFAULT_SLOTS = 128  # where --max-num-seqs sets none: below vLLM's own defaults, so nothing queues inside


class DecoderWorker(Worker):
    """A Ray actor with one decoder engine."""

    def __init__(self, name: str, membership: Membership, node_ip: Callable[[], str], cpus: str | None) -> None:
        pool = membership.config.decoders
        slots = slots_of(pool.engine_args)

        def capacity(engine: Engine) -> Capacity:
            return Capacity(slots, engine.kv_cache_tokens(), SEED_TOKENS_PER_S)

        super().__init__(name, Role.DECODER, pool, membership, node_ip, cpus, capacity)


def slots_of(engine_args: list[str]) -> int:
    """Requests the engine runs at once, as its arguments set it.

    Raises:
        ValueError: `--max-num-seqs` without a number.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--max-num-seqs", "--max_num_seqs", type=int, default=DEFAULT_SLOTS)
    try:
        slots: int = parser.parse_known_args(engine_args)[0].max_num_seqs
    except argparse.ArgumentError as error:
        raise ValueError(f"decoders.engine_args: {error}") from error
    return slots
