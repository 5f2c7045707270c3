"""The decoder worker: owns one engine that has a language model and no vision tower."""

from collections.abc import Callable

from chiasm.capacity import of_generator
from chiasm.membership import Membership
from chiasm.nouns import Role
from chiasm.worker import Charge, Worker


class DecoderWorker(Worker):
    """A Ray actor with one decoder engine."""

    def __init__(self, name: str, membership: Membership, node_ip: Callable[[], str], cpus: str | None) -> None:
        pool = membership.config.decoders
        measure = of_generator(pool.engine_args)
        super().__init__(membership, node_ip, cpus, [Charge(name, Role.DECODER, pool.engine_args, pool.env, measure)])
