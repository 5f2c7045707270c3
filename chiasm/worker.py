"""What all workers have in common: supervised engines, and a few questions that anyone may ask.

The actors are placed by `chiasm.cluster`. A worker starts its engines by itself, so that an actor that Ray
restarted serves again without being told to. It must not import Ray.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chiasm.capacity import Measure
from chiasm.engine import EngineSpec
from chiasm.landing import Landing
from chiasm.loop_thread import LoopThread
from chiasm.membership import Membership
from chiasm.messages import NOBODY
from chiasm.nouns import Role, WorkerId
from chiasm.supervisor import Beside, Supervisor, Tuning
from chiasm.wire.settings import ConnectorSettings

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 60.0
LEAVE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Charge:
    """One engine that a worker answers for."""

    name: str  # under which it registers
    role: Role
    engine_args: Sequence[str]
    env: Mapping[str, str]
    measure: Measure
    beside: Beside | None = None
    card_of: WorkerId = NOBODY  # the encoder whose card it shares
    tuning: Tuning | None = None


class Worker:
    """Owns engines on one card, or on the same cores.

    Each lives as long as the worker, through as many restarts as it takes, whatever becomes of the others.
    """

    def __init__(
        self,
        membership: Membership,
        land: Callable[[], Landing],  # asked where the worker runs
        cpus: str | None,
        charges: Sequence[Charge],
    ) -> None:
        self._landing = landing = land()
        self._drain_s = membership.config.gateway.drain_s
        if landing.fallback:
            logger.warning("%s: %s", charges[0].name, landing.fallback)
        self._supervisors = {charge.name: _supervisor(charge, membership, landing, cpus) for charge in charges}
        self._loop = LoopThread(charges[0].name, self._run)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for supervisor in self._supervisors.values():
                group.create_task(supervisor.run())

    def progress(self) -> dict[str, dict[str, Any]]:
        """How far each engine has come, by name (`supervisor.Progress` as a dict)."""
        return {name: asdict(supervisor.progress) for name, supervisor in self._supervisors.items()}

    def leave(self, node: str | None) -> float | None:
        """Take no more requests, if this worker is on the node with that id of Ray's (None: wherever it is).

        Returns for how many seconds what it has may go on; None if it is somewhere else.
        """
        if node not in (None, self._landing.node):
            return None
        self._loop.call(self._leave, LEAVE_TIMEOUT_S)
        return self._drain_s

    async def _leave(self) -> None:
        for supervisor in self._supervisors.values():
            supervisor.leave()

    def at_rest(self) -> bool:
        """Whether no engine has anything to do."""
        return all(supervisor.at_rest() for supervisor in self._supervisors.values())

    def stop(self) -> None:
        """End the engines; returns when they are gone."""
        self._loop.stop(STOP_TIMEOUT_S)


def _supervisor(charge: Charge, membership: Membership, landing: Landing, cpus: str | None) -> Supervisor:
    config, address = membership.config, landing.address
    settings = ConnectorSettings(
        worker=WorkerId(charge.name),
        model_revision=membership.facts.revision,
        listen=None if membership.one_machine else config.wire.listen_at(address),
        security=config.security,
        wire=config.wire,
    )
    spec = EngineSpec(
        name=charge.name,
        role=charge.role,
        model=membership.facts.model,
        served_name=membership.facts.name,
        token=membership.token,
        revision=config.revision,
        files=membership.facts.files,
        host=membership.engine_host(address),
        cpus=cpus,
        args=tuple(charge.engine_args),
        env=charge.env,
        connector=settings.model_dump(),
        keys=membership.keys,
        records=config.telemetry.timelines > 0,
        traces=config.telemetry.otlp_endpoint,
    )
    return Supervisor(
        spec,
        config,
        landing,
        membership.connect,
        charge.measure,
        charge.beside,
        charge.card_of,
        charge.tuning,
    )
