"""How a machine's cores are dealt out, and where what is no engine runs."""

import os
import subprocess
import sys

import pytest

from chiasm.config import ClusterConfig, SchedulerConfig
from chiasm.cores import beside_decoders, share_cores, started_on
from chiasm.pools import EncodersConfig, PoolConfig, WholesConfig


def config(encoders: EncodersConfig, decoders: PoolConfig) -> ClusterConfig:
    return ClusterConfig(encoders=encoders, decoders=decoders)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1, 2, 3})


def test_cores_are_dealt_evenly_and_never_twice() -> None:
    assert share_cores(config(EncodersConfig(), PoolConfig())) == {"encoder-0": "0,1", "decoder-0": "2,3"}
    assert share_cores(config(EncodersConfig(count=2), PoolConfig())) == {
        "encoder-0": "0",
        "encoder-1": "1",
        "decoder-0": "2",
    }


def test_nobody_is_bound_where_cores_do_not_suffice() -> None:
    assert share_cores(config(EncodersConfig(count=4), PoolConfig())) == {}


def test_workers_with_gpus_or_cores_of_their_own_get_none() -> None:
    assert share_cores(config(EncodersConfig(gpus=1), PoolConfig())) == {"decoder-0": "0,1,2,3"}
    assert share_cores(config(EncodersConfig(cpus=["0"]), PoolConfig())) == {"decoder-0": "0,1,2,3"}


def test_a_thief_has_its_encoders_cores() -> None:
    stealing = config(EncodersConfig(), PoolConfig()).model_copy(
        update={"scheduler": SchedulerConfig(stealing="yield")}
    )
    assert share_cores(stealing) == {"encoder-0": "0,1", "decoder-0": "2,3"}


def test_a_whole_worker_has_cores_of_its_own() -> None:
    beside = ClusterConfig(wholes=WholesConfig(count=2))
    cores = {"encoder-0": "0", "decoder-0": "1", "whole-0": "2", "whole-1": "3"}
    assert share_cores(beside) == cores


def test_what_is_no_engine_runs_where_nobody_decodes() -> None:
    assert beside_decoders(config(EncodersConfig(), PoolConfig())) == {0, 1}
    assert beside_decoders(config(EncodersConfig(cpus=["0"]), PoolConfig(cpus=["1,2"]))) == {0, 3}
    assert beside_decoders(ClusterConfig(wholes=WholesConfig(count=1))) == {0, 3}


def test_nothing_is_kept_off_cores_that_a_worker_may_need() -> None:
    assert beside_decoders(config(EncodersConfig(count=4), PoolConfig())) is None  # nobody is bound
    assert beside_decoders(config(EncodersConfig(gpus=1), PoolConfig(cpus=["1"]))) is None
    assert beside_decoders(config(EncodersConfig(count=0), PoolConfig())) is None  # no core is left
    assert beside_decoders(ClusterConfig(roles="auto")) is None


def test_a_text_engine_decodes_on_its_encoders_cores() -> None:
    off = config(EncodersConfig(cpus=["0"]), PoolConfig(cpus=["1,2"]))
    assert beside_decoders(off) == {0, 3}
    stealing = off.model_copy(update={"scheduler": SchedulerConfig(stealing="share")})
    assert beside_decoders(stealing) == {3}


@pytest.mark.parametrize(("left", "cores"), [(1, None), (2, {14, 15})])
def test_what_is_no_engine_is_not_crowded_onto_a_core_of_many(
    monkeypatch: pytest.MonkeyPatch, left: int, cores: set[int] | None
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(16)))
    engines = PoolConfig(cpus=[f"0-{15 - left}"])
    assert beside_decoders(config(EncodersConfig(count=0), engines)) == cores


def test_where_nothing_is_said_of_cores_nobody_is_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    def bound(_pid: int, cores: set[int]) -> None:
        raise AssertionError(cores)

    monkeypatch.setattr("os.sched_setaffinity", bound)
    with started_on(None):
        pass


def test_whatever_is_started_stays_on_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = os.sched_getaffinity(0)
    some = {min(before)}
    with started_on(some):
        seen = subprocess.run(
            [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], capture_output=True, check=True
        )
    assert set(map(int, seen.stdout.split())) == some
    assert os.sched_getaffinity(0) == before
