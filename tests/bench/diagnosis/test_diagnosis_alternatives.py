"""What is advised before a split; the chunk that is named is put to the test."""

import dataclasses

import pytest
from virtual_engine import LADDER, around, swept

from bench.diagnosis.alternatives import alternatives, chunk
from bench.diagnosis.findings import Findings
from bench.diagnosis.plan import Rung
from bench.diagnosis.sizes import Sent
from bench.diagnosis.sweeping import PICTURE
from bench.diagnosis.verdict import Advice, decide

pytestmark = pytest.mark.slow

SENT = Sent(((896, 896),), told=True)


def found(encode: float, prefill: float, **more: float) -> Findings:
    """Costs in ms for 1,000 tokens; the largest picture has 1,024, and beside nothing a gap is 10 ms."""
    return swept(around(encode, prefill, 0.005), **more).found()


def longest(seen: Findings) -> list[float]:
    """The longest gap beside the largest picture, in ms, of each sweep."""
    return [sweep[PICTURE, len(LADDER) - 1].stall.longest_ms for sweep in seen.sweeps]


def test_the_chunk_that_is_named_keeps_to_the_objective_and_twice_that_does_not() -> None:
    tokens = chunk(found(80, 200), 100, split=False)
    assert tokens == 32  # the step has 82 ms of encode, too
    assert max(longest(found(80, 200, chunk=tokens))) <= 100
    assert min(longest(found(80, 200, chunk=2 * tokens))) > 100


def test_so_does_the_one_for_after_a_split() -> None:
    tokens = chunk(found(200, 200), 100, split=True)
    assert tokens == 432
    assert max(longest(found(0, 200, chunk=tokens))) <= 100
    assert min(longest(found(0, 200, chunk=tokens + 32))) > 100
    assert chunk(found(200, 200), 100, split=False) == 0


def test_where_a_piece_is_of_several_steps_each_has_its_chunk() -> None:
    seen = found(0, 200, piece=4)
    tokens = chunk(seen, 200, split=True)
    assert tokens is not None
    assert max(longest(found(0, 200, piece=4, chunk=tokens))) <= 200
    assert max(longest(found(0, 200, piece=4, chunk=2 * tokens))) > 200


def test_a_chunk_is_named_with_the_flags_and_what_they_cost() -> None:
    said, pixels, caches = alternatives(found(80, 200), SENT, 100)
    assert "205 ms of the longest gap" in said
    assert "32 tokens a step beside the encode" in said
    assert "takes 32 steps" in said
    assert said.index("--long-prefill-token-threshold") < said.index("--max-num-batched-tokens")
    assert "--max-num-seqs" in said
    assert "tokens (" in pixels
    assert "--workload" in caches
    said, *_ = alternatives(found(200, 200), SENT, 100)
    assert "beside the encode no chunk" in said
    assert "For a split" in said
    assert "432 tokens a step" in said


@pytest.mark.parametrize("more", [{}, {"piece": 4}])
@pytest.mark.parametrize("objective", range(60, 320, 20))
def test_a_chunk_is_named_wherever_the_verdict_is_to_try_one(objective: float, more: dict[str, float]) -> None:
    seen = found(80, 100, **more)
    first, *_ = alternatives(seen, SENT, objective)
    advised = decide(seen, objective).advice
    assert (advised == Advice.CHUNK_FIRST) == ("tokens a step beside the encode keep to" in first)
    assert (advised != Advice.SPLIT_AND_CHUNK) or ("For a split" in first)


def test_no_chunk_is_named_where_it_cannot_help() -> None:
    first, *_ = alternatives(found(200, 50), SENT, 100)  # the prefill alone is within
    assert first.startswith("Fewer pixels")
    said, *_ = alternatives(found(200, 50), SENT, 10.0)
    assert "no chunk keeps to 10 ms" in said
    free = swept([(1e-4, 0.0), (1e-4, 1e-6), (1e-4, -1e-6)]).found()
    assert chunk(free, 100, split=False) is None
    assert "not told apart from nothing" in next(alternatives(free, SENT, 5.0))


def test_a_size_that_keeps_to_the_objective_is_named() -> None:
    *_, pixels, _ = alternatives(found(200, 50), SENT, 100)
    assert "360 tokens (531 x 531)" in pixels  # 90 ms / 250 ms for 1,000
    assert "--mm-processor-kwargs" in pixels
    *_, pixels, _ = alternatives(found(200, 50), SENT, 10.0)
    assert "Even 64 tokens" in pixels
    *_, pixels, _ = alternatives(found(200, 50), SENT, 1000)
    assert "within 1000 ms" in pixels


def test_where_sizes_make_no_difference_the_number_does() -> None:
    seen = found(200, 50)
    rungs = tuple(
        dataclasses.replace(rung, carries=Rung((336, 336), number, 256 * number))
        for number, rung in enumerate(seen.rungs, start=1)
    )
    *_, pixels, _ = alternatives(dataclasses.replace(seen, rungs=rungs, judged=rungs[-1]), SENT, 100)
    assert "256 tokens of a picture of any size" in pixels


@pytest.mark.parametrize(("tokens", "held"), [(1024, ("1 in one of 2,048", "3 in one of 8,192"))])
def test_pictures_that_come_again_too_late_are_no_hits(tokens: int, held: tuple[str, str]) -> None:
    assert LADDER[-1].tokens == tokens
    *_, caches = alternatives(found(200, 50), dataclasses.replace(SENT, pictures=10, again=(1, 2, 7, 40)), 100)
    assert "4 of the 10" in caches
    assert "40%" in caches
    assert all(each in caches for each in held)
    *_, caches = alternatives(found(200, 50), dataclasses.replace(SENT, pictures=10), 100)
    assert "none of the 10" in caches
