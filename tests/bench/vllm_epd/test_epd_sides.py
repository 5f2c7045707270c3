"""What is started for the comparison; nothing is started here."""

from collections.abc import Iterator, Mapping, Sequence
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
def began(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
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

    @contextmanager
    def starting_all(arrangements: Sequence[Arrangement], setting: Setting) -> Iterator[dict[Arrangement, str]]:
        began.append((tuple(arrangements), setting))
        yield {each: str(each) for each in arrangements}

    @contextmanager
    def only_on(cores: str) -> Iterator[None]:
        began.append(cores)
        yield

    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(bench.vllm_epd.sides, "require", lambda arrangements, _setting: began.append(arrangements))
    monkeypatch.setattr(bench.vllm_epd.sides, "serving", serving)
    monkeypatch.setattr(bench.vllm_epd.sides, "starting", starting)
    monkeypatch.setattr(bench.vllm_epd.sides, "starting_all", starting_all)
    monkeypatch.setattr(bench.vllm_epd.sides, "only_on", only_on)
    return began


def test_ours_has_vllms_own_chunk_and_all_else_alike(began: list[Any], tmp_path: Path) -> None:
    setting = Setting(tmp_path, ("0", "1"))
    with both(setting, calibrated=False) as running:
        assert list(running) == [OURS, THEIRS]
        assert running[THEIRS] == "theirs"
    room, cores, split, theirs = began
    assert set(room) == {Arrangement.SPLIT, Arrangement.VLLM_EPD}
    assert cores == "0,1"  # of the gateway, the proxy and the client
    assert split.scheduler.prefill_chunk == 0
    assert theirs == (Arrangement.VLLM_EPD, setting)
    # The same cores and arguments on both sides.
    assert (split.encoders.cpus, split.decoders.cpus) == ([setting.cores[0]], [setting.cores[1]])
    assert tuple(split.decoders.engine_args) == setting.engine_args


def test_calibrated_ours_is_as_it_is_compared_elsewhere(began: list[Any], tmp_path: Path) -> None:
    setting = Setting(tmp_path, ("0", "1"))
    with both(setting, calibrated=True) as running:
        assert running == {OURS: "split", THEIRS: "vllm-epd"}
    assert began == [((Arrangement.SPLIT, Arrangement.VLLM_EPD), setting)]
