"""Measuring an engine whose step times are known."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from stepping_engine import TOKEN, WORD_TOKENS, SteppingEngine

from chiasm.calibration import Step
from decoder.step_times import PROBES, STREAM_PROMPT, NotMeasured, Room, measure_steps

ROOM = Room(streams=32, prompt=2000, context=4096)
OBJECTIVE_S = 0.1
PATIENCE_S = 30.0


@pytest.fixture
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[SteppingEngine]:
    engine = SteppingEngine(*getattr(request, "param", (0.005, 0.001, 0.0002)))
    await engine.start()
    yield engine
    await engine.stop()


async def measure(
    engine: SteppingEngine, room: Room = ROOM, deadline_s: float = PATIENCE_S
) -> dict[tuple[int, int], float]:
    """Milliseconds by streams and prompt tokens."""
    steps = await measure_steps(engine.url, TOKEN, "served", room, OBJECTIVE_S, deadline_s, engine.clock)
    assert all(isinstance(step, Step) for step in steps)
    return {(step.streams, step.prompt): pytest.approx(1000 * step.seconds) for step in steps}


async def test_streams_are_doubled_and_prompts_grow_until_a_step_is_beyond_the_objective(
    engine: SteppingEngine,
) -> None:
    assert await measure(engine) == {
        (1, 0): 6.0,
        (2, 0): 7.0,
        (4, 0): 9.0,
        (8, 0): 13.0,
        (16, 0): 21.0,
        (32, 0): 37.0,
        (32, 16): 40.2,
        (32, 64): 49.8,
        (32, 256): 88.2,
        (32, 1024): 241.8,
    }


@pytest.mark.parametrize("engine", [(0.001, 0.0, 0.00001)], indirect=True)
async def test_a_quick_engine_is_measured_up_to_the_largest_prompt(engine: SteppingEngine) -> None:
    found = await measure(engine, Room(streams=6, prompt=2000, context=4096))
    assert list(found) == [(1, 0), (2, 0), (4, 0), (4, 16), (4, 64), (4, 256), (4, 1024), (4, 2000)]
    assert found[4, 2000] == 21.0


@pytest.mark.parametrize("engine", [(0.02, 0.006, 0.001)], indirect=True)
async def test_streams_leave_half_of_the_objective_to_prompts(engine: SteppingEngine) -> None:
    assert list(await measure(engine)) == [(1, 0), (1, 16), (1, 64), (1, 256)]


@pytest.mark.parametrize("engine", [(0.5, 0.0, 0.001)], indirect=True)
async def test_no_prompt_is_measured_where_decoding_alone_is_beyond_the_objective(engine: SteppingEngine) -> None:
    assert await measure(engine) == {(1, 0): 500.0}
    assert len(engine.asked) == 1


async def test_one_step_that_is_held_up_counts_for_nothing(engine: SteppingEngine) -> None:
    engine.disturbed.update({0: 1, 16: 1, 256: 1})
    found = await measure(engine)
    assert (found[1, 0], found[32, 16], found[32, 256]) == (6.0, 40.2, 88.2)
    assert (32, 1024) in found


async def test_prompts_are_plain_words_and_none_has_been_seen_before(engine: SteppingEngine) -> None:
    await measure(engine)
    beginnings = [tuple(asked.prompt[:STREAM_PROMPT]) for asked in engine.asked]
    assert len(beginnings) == len(set(beginnings)) == 32 + 4 * PROBES
    assert all(set(asked.prompt) <= set(WORD_TOKENS) for asked in engine.asked)


async def test_nothing_runs_on_when_all_is_measured(engine: SteppingEngine) -> None:
    await measure(engine)
    async with asyncio.timeout(PATIENCE_S):
        while engine.running:  # noqa: ASYNC110  # the server notices in its own time
            await asyncio.sleep(0.001)


async def test_streams_that_come_to_their_end_leave_what_was_measured(engine: SteppingEngine) -> None:
    found = await measure(engine, Room(streams=32, prompt=2000, context=STREAM_PROMPT + 15))
    assert found == {(1, 0): 6.0}


@pytest.mark.parametrize("engine", [(0.005, 0.001, 0.0002)], indirect=True)
async def test_the_deadline_is_kept_by_an_engine_that_does_not_answer(engine: SteppingEngine) -> None:
    engine.silent = True
    async with asyncio.timeout(PATIENCE_S):
        assert await measure(engine, deadline_s=0.05) == {}


@pytest.mark.parametrize("broken", ["/tokenize", "/v1/completions", "stream"])
async def test_an_engine_that_refuses_is_not_measured(engine: SteppingEngine, broken: str) -> None:
    engine.broken = broken
    with pytest.raises(NotMeasured, match="out of memory" if broken == "stream" else "404"):
        await measure(engine)


async def test_an_engine_that_is_gone_is_not_measured(engine: SteppingEngine) -> None:
    with pytest.raises(NotMeasured, match="Cannot connect"):
        await measure_steps("http://127.0.0.1:9", TOKEN, "served", ROOM, OBJECTIVE_S)
