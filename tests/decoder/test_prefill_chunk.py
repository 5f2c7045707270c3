"""When a decoder's steps are measured, when its engine is started again for them, and with which flags."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stepping_engine import SteppingEngine

import decoder.prefill_chunk
from chiasm.calibration import Step
from chiasm.calibration_cache import Conditions, load, save
from chiasm.config import ClusterConfig, SchedulerConfig
from chiasm.pools import PoolConfig
from decoder.prefill_chunk import PrefillChunk, conditions_here
from decoder.step_times import measure_steps

CONDITIONS = Conditions("r", "a processor", 2, "0.32.0", "d", 100.0)
# Two streams take 27 ms, so of 100 ms 73 are left to a prompt: at 0.2 ms a token 365 tokens, in multiples of 16.
SLOW_PROMPTS = (0.015, 0.006, 0.0002)
BOUNDED = ("--max-num-batched-tokens=354", "--long-prefill-token-threshold=352", "--max-num-seqs=128")


class Tuned:
    """A decoder's worker as far as its chunk goes, started anew at each `start`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def start(self, *args: str, conditions: Conditions = CONDITIONS, **scheduler: Any) -> PrefillChunk:
        config = ClusterConfig(
            scheduler=SchedulerConfig(itl_slo_ms=100.0, **scheduler), decoders=PoolConfig(engine_args=list(args))
        )
        return PrefillChunk(config, 4096, conditions, self.folder, self.said.append)

    @property
    def files(self) -> list[Path]:
        return list(self.folder.glob("*"))


@pytest.fixture
def tuned(tmp_path: Path) -> Tuned:
    return Tuned(tmp_path / "steps")


@pytest.fixture
async def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SteppingEngine]:
    engine = SteppingEngine(*getattr(request, "param", SLOW_PROMPTS))
    monkeypatch.setattr(decoder.prefill_chunk, "measure_steps", partial(measure_steps, clock=engine.clock))
    await engine.start()
    yield engine
    await engine.stop()


async def test_the_first_engine_is_measured_and_started_again_for_shorter_steps(
    tuned: Tuned, engine: SteppingEngine
) -> None:
    chunk = tuned.start()
    assert (chunk.flags(), chunk.tokens) == ((), 0)
    assert not await chunk.settle(engine)  # type: ignore[arg-type]
    assert engine.stages == ["measuring how long steps take", "starting again, for shorter steps"]
    assert (chunk.flags(), chunk.tokens) == (BOUNDED, 352)
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert tuned.said == [
        "prefill chunk: 352 tokens; beside 2 streams a step takes 97 ms, within scheduler.itl_slo_ms = 100; "
        "measured now"
    ]


async def test_the_second_start_has_the_flags_at_once_and_asks_nothing(tuned: Tuned, engine: SteppingEngine) -> None:
    await tuned.start().settle(engine)  # type: ignore[arg-type]
    engine.asked.clear()
    chunk = tuned.start()
    assert (chunk.flags(), chunk.tokens) == (BOUNDED, 352)
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert engine.asked == []
    assert tuned.said[-1].endswith("measured before")


async def test_under_other_conditions_steps_are_measured_anew(tuned: Tuned, engine: SteppingEngine) -> None:
    save(tuned.folder, CONDITIONS, (Step(1, 0, 0.001), Step(1, 16, 0.002)))
    assert tuned.start().tokens == 16
    chunk = tuned.start(conditions=msgspec.structs.replace(CONDITIONS, vllm="0.33.0"))
    assert chunk.flags() == ()
    assert not await chunk.settle(engine)  # type: ignore[arg-type]
    assert len(tuned.files) == 2


@pytest.mark.parametrize("engine", [(0.015, 0.006, 0.00001)], indirect=True)
async def test_an_engine_whose_largest_steps_are_quick_enough_goes_on(tuned: Tuned, engine: SteppingEngine) -> None:
    chunk = tuned.start()
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert chunk.tokens == 2048 - 32
    assert len(tuned.files) == 1


@pytest.mark.parametrize("engine", [(0.015, 0.006, 0.00004)], indirect=True)
async def test_for_a_little_no_engine_is_started_again(tuned: Tuned, engine: SteppingEngine) -> None:
    chunk = tuned.start()
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert chunk.tokens == 1824  # of 2016


@pytest.mark.parametrize("engine", [(0.3, 0.0, 0.001)], indirect=True)
async def test_an_objective_that_no_chunk_keeps_gets_the_least_and_is_reported(
    tuned: Tuned, engine: SteppingEngine
) -> None:
    chunk = tuned.start()
    assert not await chunk.settle(engine)  # type: ignore[arg-type]
    assert chunk.flags() == ("--max-num-batched-tokens=24", "--long-prefill-token-threshold=16", "--max-num-seqs=8")
    assert "beyond scheduler.itl_slo_ms = 100, which no chunk keeps (raise it, or use more cores" in tuned.said[0]


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--max-num-batched-tokens=64"], "--max-num-batched-tokens, which decides"),
        (["--max_num_batched_tokens", "64"], "--max-num-batched-tokens, which decides"),
        (["--long-prefill", "64"], "--long-prefill-token-threshold, which decides"),
        (["--disable-chunked-mm-input"], "each image is computed in one step"),
        (["--speculative-config.method", "ngram"], "a step computes drafts as well"),
        (["--max-num-seqs=1"], "requests run one at a time"),
    ],
)
async def test_what_the_operator_has_set_is_left_alone(
    tuned: Tuned, engine: SteppingEngine, args: list[str], why: str
) -> None:
    chunk = tuned.start(*args)
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert (chunk.flags(), chunk.tokens, engine.asked) == ((), 0, [])
    [said] = tuned.said
    assert said.startswith("prefill chunk: left to vLLM (")
    assert why in said


async def test_the_operators_number_of_streams_is_kept(tuned: Tuned, engine: SteppingEngine) -> None:
    chunk = tuned.start("--max-num-seqs=500")
    await chunk.settle(engine)  # type: ignore[arg-type]
    # vLLM wants a step to have room for as many tokens, and a prompt gets some beside them.
    assert chunk.flags() == ("--max-num-batched-tokens=516", "--long-prefill-token-threshold=352")
    engine.asked.clear()
    few = tuned.start("--max-num-seqs=2", conditions=msgspec.structs.replace(CONDITIONS, engine="few"))
    await few.settle(engine)  # type: ignore[arg-type]
    assert sum(asked.streamed for asked in engine.asked) == 1  # the other is for prompts


async def test_a_chunk_that_is_configured_is_not_measured(tuned: Tuned, engine: SteppingEngine) -> None:
    chunk = tuned.start(prefill_chunk=64)
    assert (chunk.flags()[:2], chunk.tokens) == (
        ("--max-num-batched-tokens=96", "--long-prefill-token-threshold=64"),
        64,
    )
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert engine.asked == []
    assert tuned.start(prefill_chunk=1 << 20).tokens == 4096  # vLLM takes no more than the context


async def test_zero_leaves_it_to_vllm(tuned: Tuned, engine: SteppingEngine) -> None:
    chunk = tuned.start(prefill_chunk=0)
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert (chunk.flags(), engine.asked) == ((), [])


@pytest.mark.parametrize("seconds", ["-1", "0.001"])  # no time at all; no word of what a prompt takes
async def test_a_file_that_tells_nothing_is_measured_anew_and_replaced(
    tuned: Tuned, engine: SteppingEngine, seconds: str
) -> None:
    path = save(tuned.folder, CONDITIONS, (Step(1, 0, 0.25),))
    assert path is not None
    path.write_text(path.read_text().replace("0.25", seconds))
    chunk = tuned.start()
    assert chunk.flags() == ()
    assert not await chunk.settle(engine)  # type: ignore[arg-type]
    assert chunk.flags() == tuned.start().flags() == BOUNDED


async def test_where_nothing_can_be_kept_the_chunk_is_used_all_the_same(tuned: Tuned, engine: SteppingEngine) -> None:
    tuned.folder.write_text("a file where the folder should be")
    chunk = tuned.start()
    assert not await chunk.settle(engine)  # type: ignore[arg-type]
    assert chunk.flags() == BOUNDED
    assert load(None, CONDITIONS) == ()
    assert save(None, CONDITIONS, ()) is None


@pytest.mark.parametrize("broken", ["/v1/chiasm/report", "/tokenize", "stream"])
async def test_an_engine_that_cannot_be_measured_serves_as_it_is_and_is_not_tried_again(
    tuned: Tuned, engine: SteppingEngine, broken: str
) -> None:
    engine.broken = broken
    chunk = tuned.start()
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    engine.broken = None
    engine.asked.clear()
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert (chunk.flags(), engine.asked, tuned.files) == ((), [], [])
    assert tuned.said[-1].startswith("prefill chunk: left to vLLM (the engine ")


async def test_an_engine_that_is_not_measured_in_time_serves_as_it_is(
    tuned: Tuned, engine: SteppingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.silent = True
    monkeypatch.setattr(decoder.prefill_chunk, "measure_steps", partial(measure_steps, deadline_s=0.05))
    chunk = tuned.start()
    assert await chunk.settle(engine)  # type: ignore[arg-type]
    assert chunk.flags() == ()
    assert tuned.said == ["prefill chunk: left to vLLM (there was no time to measure it)"]


def test_the_conditions_are_those_of_the_decoders_and_their_cores(tmp_path: Path) -> None:
    from test_decoder_worker import FACTS

    def here(*args: str, cpus: str | None = None, **env: str) -> Conditions:
        config = ClusterConfig(decoders=PoolConfig(engine_args=list(args), env=env))
        return conditions_here(config, FACTS, cpus)

    assert here() == here()
    assert (here().model, here().objective_ms) == (FACTS.revision, 200.0)
    assert here().processor
    assert here(cpus="0-3,6").cores == 5
    assert len({here().engine, here("--enforce-eager").engine, here(VLLM_X="1").engine}) == 3
