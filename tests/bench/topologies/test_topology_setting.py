"""What is the same for all arrangements, what it refuses, what memory they need, and how vLLM's servers are started."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.topologies import resources
from bench.topologies.arrangement import Arrangement
from bench.topologies.calibration import NotCalibrated, chunk_of
from bench.topologies.resources import CLUSTER_BYTES, NotEnough, memory_bytes, require
from bench.topologies.setting import COMMON_ARGS, BadSetting, Setting
from bench.topologies.stock import EXAMPLES_STEP_TOKENS, encoder_args

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cores": ("0", "0-1")}, "share a core"),
        ({"cores": ("0", "one")}, "written like"),
        ({"cores": ("0", "4000")}, "core 4000"),
        ({"itl_slo_ms": 0.0}, "itl_slo_ms"),
        ({"engine_args": (*COMMON_ARGS, "--max-num-batched-tokens", "256")}, "--max-num-batched-tokens is what"),
        ({"engine_args": (*COMMON_ARGS, "--port=80")}, "--port"),
        ({"engine_args": ("--dtype=float32",)}, "must have --kv-cache-memory-bytes"),
        ({"engine_args": ("--kv-cache-memory-bytes=1000",)}, "must have --max-num-seqs"),
        ({"engine_args": ("--kv-cache-memory-bytes=1G",)}, "plain number"),
        ({"pace": 0}, "pace"),
    ],
)
def test_what_cannot_be_compared_is_refused(setting: Setting, changed: dict[str, object], message: str) -> None:
    with pytest.raises(BadSetting, match=message):
        replace(setting, **changed)  # type: ignore[arg-type]


def test_cache_and_slots_are_shared_out_and_nothing_else(setting: Setting) -> None:
    assert setting.shared(1) == COMMON_ARGS
    assert setting.shared(2) == (*COMMON_ARGS, f"--kv-cache-memory-bytes={64 << 20}", "--max-num-seqs=8")
    with pytest.raises(BadSetting, match="--max-num-seqs=1 cannot be shared out to 2"):
        replace(setting, engine_args=(*COMMON_ARGS, "--max-num-seqs=1")).shared(2)


def test_the_first_cores_are_the_slower_ones(setting: Setting) -> None:
    uneven = replace(setting, pace=4)
    assert [uneven.slower(cpus) for cpus in (*uneven.cores, uneven.all_cores)] == [4, 1, 1]
    assert uneven.described()["pace"] == 4


def test_the_encoder_has_room_for_all_that_it_runs_at_once(setting: Setting) -> None:
    assert f"--max-num-batched-tokens={16 * 2048}" in encoder_args(setting, "/folder")
    unbounded = replace(setting, engine_args=("--kv-cache-memory-bytes=1000", "--max-num-seqs=4"))
    assert f"--max-num-batched-tokens={EXAMPLES_STEP_TOKENS}" in encoder_args(unbounded, "/folder")


def test_memory_counts_each_engine_with_the_weights_and_the_cache_once(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "ENGINE_BYTES", 2 * GB)
    each = 2 * GB + 1000 + (256 << 20)
    kv = 128 << 20
    assert memory_bytes(Arrangement.MONO, setting) == each + kv
    assert memory_bytes(Arrangement.SPLIT, setting) == 2 * each + kv + CLUSTER_BYTES
    assert memory_bytes(Arrangement.SPLIT_STEAL, setting) == 3 * each + kv + CLUSTER_BYTES
    vllms_own = replace(setting, engine_args=COMMON_ARGS[:-1])
    assert memory_bytes(Arrangement.MONO, vllms_own) == 2 * GB + 1000 + (4 << 30) + kv


def test_what_does_not_fit_together_is_refused_with_the_figures(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "ENGINE_BYTES", 2 * GB)
    both = [Arrangement.MONO, Arrangement.SPLIT]
    require(both, setting, available=10 * GB)
    with pytest.raises(NotEnough, match=r"About 9\.0 GB .*mono 2\.4, split 5\.6.* 8\.0 GB are free") as refused:
        require(both, setting, available=8 * GB)
    assert "Cure" in str(refused.value)


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    unlimited = resources.available_bytes()
    assert unlimited > 1 << 20
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("3000\n")
    assert resources.available_bytes() == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.available_bytes() > 1 << 20


def test_a_model_without_weights_is_named(setting: Setting, tmp_path: Path) -> None:
    with pytest.raises(NotEnough, match="no weights"):
        memory_bytes(Arrangement.MONO, replace(setting, model=tmp_path))


def test_an_engine_that_cannot_be_measured_is_not_calibrated(setting: Setting) -> None:
    args = ("--max-num-seqs=1", "--kv-cache-memory-bytes=1000")
    with pytest.raises(NotCalibrated, match="too small"):
        chunk_of(replace(setting, engine_args=args), setting.cores[0], args)
