"""How a machine's cores are dealt out."""

import pytest

from chiasm.cluster import share_cores
from chiasm.config import ClusterConfig, EncodersConfig, PoolConfig


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
