"""The decoder worker: owns one engine that has a language model and no vision tower."""

from collections.abc import Callable
from dataclasses import replace

from chiasm.calibration_cache import cache_folder
from chiasm.capacity import Capacity, of_generator
from chiasm.engine import Engine
from chiasm.landing import Landing
from chiasm.membership import Membership
from chiasm.nouns import Role
from chiasm.worker import Charge, Worker
from decoder.prefill_chunk import PrefillChunk, conditions_here


class DecoderWorker(Worker):
    """A Ray actor with one decoder engine."""

    def __init__(self, name: str, membership: Membership, land: Callable[[], Landing], cpus: str | None) -> None:
        membership.require_same_version()
        config, facts = membership.config, membership.facts
        pool = config.decoders
        chunk = PrefillChunk(
            config,
            facts.max_model_len,
            conditions_here(config, facts, cpus),
            cache_folder(),
            lambda text: print(f"[{name}] {text}"),
        )

        def measure(engine: Engine) -> Capacity:
            return replace(of_generator(engine.spec.args)(engine), prefill_tokens=chunk.tokens)

        charge = Charge(name, Role.DECODER, pool.engine_args, pool.env, measure, tuning=chunk)
        super().__init__(membership, land, cpus, [charge])
