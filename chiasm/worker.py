"""What encoder and decoder workers have in common: one engine, supervised, and a few questions that anyone may ask.

The actors are placed by `chiasm.cluster`. A worker starts its engine by itself, so that an actor that Ray
restarted serves again without being told to. It must not import Ray.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from chiasm.config import PoolConfig
from chiasm.engine import Engine, EngineSpec
from chiasm.loop_thread import LoopThread
from chiasm.membership import Membership
from chiasm.nouns import Role, WorkerId
from chiasm.supervisor import Beside, Capacity, Supervisor
from chiasm.wire.settings import ConnectorSettings

STOP_TIMEOUT_S = 60.0


class Worker:
    """Owns one engine of `role`; the engine lives as long as the worker, through as many restarts as it takes."""

    def __init__(
        self,
        name: str,
        role: Role,
        pool: PoolConfig,
        membership: Membership,
        node_ip: Callable[[], str],  # asked where the worker runs
        cpus: str | None,
        measure: Callable[[Engine], Capacity],
        beside: Beside | None = None,
    ) -> None:
        config = membership.config
        address = node_ip()
        settings = ConnectorSettings(
            worker=WorkerId(name),
            model_revision=membership.facts.revision,
            listen=None if membership.one_machine else f"tcp://{address}:*",
            security=config.security,
            wire=config.wire,
        )
        spec = EngineSpec(
            name=name,
            role=role,
            model=membership.facts.model,
            served_name=membership.facts.name,
            token=membership.token,
            revision=config.revision,
            host=membership.engine_host(address),
            cpus=cpus,
            args=tuple(pool.engine_args),
            env=pool.env,
            connector=settings.model_dump(),
            keys=membership.keys,
        )
        self._supervisor = Supervisor(spec, config, address, membership.connect, measure, beside)
        self._loop = LoopThread(name, self._supervisor.run)

    def progress(self) -> dict[str, Any]:
        """How far the engine has come (`supervisor.Progress` as a dict)."""
        return asdict(self._supervisor.progress)

    def guard_pid(self) -> int | None:
        """Process id of the engine's guard, for tests and drills."""
        return self._supervisor.engine.guard_pid if self._supervisor.engine is not None else None

    def stop(self) -> None:
        """End the engine; returns when it is gone."""
        self._loop.stop(STOP_TIMEOUT_S)
