"""What a decoder worker's engine is started with, and what it is reported to take."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import chiasm.worker
from chiasm.calibration import Step
from chiasm.calibration_cache import cache_folder, save
from chiasm.capacity import Capacity
from chiasm.config import ClusterConfig
from chiasm.landing import Landing
from chiasm.membership import Membership
from chiasm.nouns import Role
from chiasm.pools import PoolConfig
from chiasm.preflight import ModelFacts
from chiasm.wire.keys import ClusterKeys
from decoder.prefill_chunk import conditions_here
from decoder.worker import DecoderWorker

FACTS = ModelFacts("m", "m", "A", "revision", 784, (1, 4096), None, 4096, ("image_grid_thw",))


class FakeSupervisor:
    """Notes what it is given."""

    def __init__(self, spec: Any, *more: Any) -> None:
        self.spec, self.measure, self.tuning = spec, more[3], more[6]

    async def run(self) -> None:
        await asyncio.Event().wait()

    def capacity(self) -> Capacity:
        """Of an engine that is started with the flags of the moment."""
        spec = SimpleNamespace(args=(*self.tuning.flags(), *self.spec.args))
        found: Capacity = self.measure(SimpleNamespace(spec=spec, kv_cache_tokens=lambda: 5000))
        return found


def test_a_decoder_starts_with_its_chunk_and_reports_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[FakeSupervisor] = []
    monkeypatch.setattr(chiasm.worker, "Supervisor", lambda *given: made.append(FakeSupervisor(*given)) or made[-1])
    config = ClusterConfig(decoders=PoolConfig(engine_args=["--enforce-eager"]))
    folder = cache_folder()
    assert folder == tmp_path / "chiasm" / "steps"
    steps = (Step(4, 0, 0.1), Step(4, 16, 0.15), Step(4, 64, 0.3))
    save(folder, conditions_here(config, FACTS, "0-1"), steps)
    membership = Membership(config, FACTS, "token", ClusterKeys.generate(), "ipc:///nowhere", one_machine=True)
    worker = DecoderWorker("decoder-0", membership, lambda: Landing("127.0.0.1"), "0-1")
    worker.stop()
    [supervisor] = made
    assert (supervisor.spec.role, supervisor.spec.args) == (Role.DECODER, ("--enforce-eager",))
    assert supervisor.tuning.flags()[:2] == ("--max-num-batched-tokens=36", "--long-prefill-token-threshold=32")
    assert supervisor.capacity() == Capacity(slots=20, kv_tokens=5000, tokens_per_s=100.0, prefill_tokens=32)
