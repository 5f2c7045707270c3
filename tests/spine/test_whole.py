"""What a whole worker's engine is started with, and what it is reported to take."""

import asyncio
from typing import Any

import pytest

import chiasm.worker
from chiasm.capacity import Capacity
from chiasm.config import ClusterConfig
from chiasm.engine import EngineSpec
from chiasm.landing import Landing
from chiasm.membership import Membership
from chiasm.nouns import Role
from chiasm.pools import PoolConfig, WholesConfig
from chiasm.preflight import ModelFacts
from chiasm.whole import WholeWorker
from chiasm.wire.keys import ClusterKeys

FACTS = ModelFacts("m", "m", "A", "r", 784, (1, 4096), None, 4096, ("image_grid_thw",))


class FakeSupervisor:
    """Notes what it is given."""

    def __init__(self, spec: EngineSpec, *more: Any) -> None:
        self.spec, self.measure, self.tuning = spec, more[3], more[6]

    async def run(self) -> None:
        await asyncio.Event().wait()


class Measured:
    """An engine that is ready."""

    def kv_cache_tokens(self) -> int:
        return 4000


def test_its_engine_is_unsplit_and_has_what_decoders_have_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[FakeSupervisor] = []
    monkeypatch.setattr(chiasm.worker, "Supervisor", lambda *given: made.append(FakeSupervisor(*given)) or made[-1])
    config = ClusterConfig(
        decoders=PoolConfig(engine_args=["--enforce-eager"], env={"THERE": "1"}),
        wholes=WholesConfig(count=1, engine_args=["--max-num-seqs=3"], env={"HERE": "1"}),
    )
    membership = Membership(config, FACTS, "token", ClusterKeys.generate(), "ipc:///nowhere", one_machine=True)
    WholeWorker("whole-0", membership, lambda: Landing("127.0.0.1"), "0-1").stop()
    [supervisor] = made
    spec = supervisor.spec
    assert (spec.name, spec.role, spec.cpus) == ("whole-0", Role.WHOLE, "0-1")
    assert (spec.args, spec.env) == (("--enforce-eager", "--max-num-seqs=3"), {"HERE": "1"})
    assert supervisor.tuning is None
    assert supervisor.measure(Measured()) == Capacity(slots=3, kv_tokens=4000, tokens_per_s=100.0)
