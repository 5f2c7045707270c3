"""What is up when it is compared, and what together: noted chunks, and the pace that the setting says."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from played_server import Played, playing

import bench.serve.sides
from bench.load.workloads import MIXES, SIDES
from bench.serve.comparing import engine_args_for
from bench.serve.plan import DEFAULT, Plan
from bench.serve.sides import NoRoom, chunks_of, grouped, side_names, up
from bench.topologies.arrangement import Arrangement
from bench.topologies.running import Remote
from bench.topologies.setting import COMMON_ARGS, Setting
from chiasm.calibration import Chunk


@pytest.mark.parametrize("pace", [1, 4])
def test_chunks_are_noted_and_the_encoders_cores_are_slowed_once_all_are_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pace: int
) -> None:
    order: list[Any] = []

    class Calibrated(Remote):
        def wait_ready(self) -> None:
            super().wait_ready()
            self.calibrated = [Chunk(64, 8, 0.1914, kept=True)]
            order.append("ready")

    @contextmanager
    def starting_all(arrangements: Sequence[Arrangement], setting: Setting) -> Iterator[dict[Arrangement, Remote]]:
        assert setting.pace == pace
        yield {each: Calibrated(server.url) for each in arrangements}

    @contextmanager
    def slowed(cores: str, share: float) -> Iterator[None]:
        order.append((cores, share))
        yield

    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(bench.serve.sides, "starting_all", starting_all)
    monkeypatch.setattr(bench.serve.sides, "slowed", slowed)
    noted: dict[str, Sequence[Mapping[str, object]]] = {}
    setting = Setting(tmp_path, ("0", "1"), pace=pace)
    with playing(Played()) as server, up(["split", server.url], setting, None, noted.__setitem__) as endpoints:
        assert list(endpoints) == ["split", server.url]
    chunk = {"prefill_chunk": 64, "beside_streams": 8, "step_ms": 191.4, "kept": True}
    assert noted == {chunks_of("split"): [chunk], chunks_of(server.url): []}
    assert order == ["ready", *([("0", 0.25)] if pace == 4 else [])]


def test_every_mix_fits_into_the_context_that_it_is_measured_with(tmp_path: Path) -> None:
    largest = max(width * height // 28**2 for width, height in SIDES)
    template = 64  # tokens that a chat template adds, and markers around each picture; more than it is
    for mix in MIXES.values():
        args = engine_args_for(Plan(("mono",), (mix,), DEFAULT))
        setting = replace(Setting(tmp_path), engine_args=args)
        longest = mix.images[1] * largest + mix.prompt_tokens[1] + mix.output_tokens[1] + template
        assert longest <= (setting.number("--max-model-len") or 0)
    assert engine_args_for(Plan(("mono",), (MIXES["4img"],), DEFAULT)) == COMMON_ARGS


def test_all_are_together_where_memory_holds_them() -> None:
    assert grouped({"mono": 2, "split": 5, "steal": 7}, room=14) == [["mono", "split", "steal"]]


def test_the_first_is_in_every_group() -> None:
    needs = {"mono": 2, "split": 5, "steal": 7, "x2": 4}
    assert grouped(needs, room=10) == [["mono", "split"], ["mono", "steal"], ["mono", "x2"]]
    assert grouped(needs, room=13) == [["mono", "split"], ["mono", "steal", "x2"]]


def test_what_fits_beside_nothing_is_refused() -> None:
    with pytest.raises(NoRoom, match=r"mono and steal need about 9\.0 GiB .* 8\.0 GiB are free\. Cure"):
        grouped({"mono": 2 << 30, "steal": 7 << 30}, room=8 << 30)


def test_who_is_there_again_has_another_name_in_the_figures() -> None:
    assert side_names([["mono", "split"], ["mono", "x2"]]) == [
        {"mono": "mono", "split": "split"},
        {"mono again 1": "mono", "x2": "x2"},
    ]
