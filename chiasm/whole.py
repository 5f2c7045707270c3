"""The whole worker: owns one engine with both halves of the model, which takes images as they are."""

from collections.abc import Callable

from chiasm.capacity import of_generator
from chiasm.landing import Landing
from chiasm.membership import Membership
from chiasm.nouns import Role
from chiasm.worker import Charge, Worker


class WholeWorker(Worker):
    """A Ray actor with one unsplit engine."""

    def __init__(self, name: str, membership: Membership, land: Callable[[], Landing], cpus: str | None) -> None:
        membership.require_same_version()
        config = membership.config
        args = config.whole_engine_args
        charge = Charge(name, Role.WHOLE, args, config.wholes.env, of_generator(args))
        super().__init__(membership, land, cpus, [charge])
