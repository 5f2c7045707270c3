"""What is started for the comparison; nothing is started here."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bench.vllm_epd.sides
from bench.topologies.arrangement import Arrangement
from bench.topologies.setting import Setting
from bench.vllm_epd.figures import OURS, THEIRS
from bench.vllm_epd.sides import both
from chiasm.config import ClusterConfig


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What was asked for, in its order."""
    began: list[Any] = []

    @contextmanager
    def serving(_name: str, config: Mapping[str, Any]) -> Iterator[None]:
        began.append(ClusterConfig.model_validate(config))
        yield

    @contextmanager
    def starting(arrangement: Arrangement, setting: Setting) -> Iterator[str]:
        began.append((arrangement, setting))
        yield "theirs"

    room = began.append
    monkeypatch.setattr(bench.vllm_epd.sides, "build_bench_model", lambda: tmp_path)
    monkeypatch.setattr(bench.vllm_epd.sides, "Setting", lambda model: Setting(model, ("0", "1")))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(bench.vllm_epd.sides, "require", lambda arrangements, _setting: room(arrangements))
    monkeypatch.setattr(bench.vllm_epd.sides, "calibrate", lambda arrangement, _setting: room(arrangement))
    monkeypatch.setattr(bench.vllm_epd.sides, "serving", serving)
    monkeypatch.setattr(bench.vllm_epd.sides, "starting", starting)
    return began


@pytest.mark.parametrize(("calibrated", "chunk"), [(False, 0), (True, None)])
def test_ours_has_vllms_own_chunk_unless_it_is_to_be_as_shipped(began: list[Any], calibrated: bool, chunk: Any) -> None:
    with both(calibrated) as running:
        assert list(running) == [OURS, THEIRS]
        assert running[THEIRS] == "theirs"
    room, *measured, split, theirs = began
    assert set(room) == {Arrangement.SPLIT, Arrangement.VLLM_EPD}
    assert measured == [Arrangement.SPLIT] * calibrated  # while nothing else runs
    assert split.scheduler.prefill_chunk == chunk
    assert theirs[0] is Arrangement.VLLM_EPD
    # The same cores and arguments on both sides.
    assert (split.encoders.cpus, split.decoders.cpus) == ([theirs[1].cores[0]], [theirs[1].cores[1]])
    assert tuple(split.decoders.engine_args) == theirs[1].engine_args
