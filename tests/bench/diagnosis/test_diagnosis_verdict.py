"""Each verdict, and that none is given where an interval holds both answers."""

import dataclasses

import pytest
from virtual_engine import LADDER, swept

from bench.diagnosis.alternatives import alternatives
from bench.diagnosis.findings import Findings, find, points, usual_gap_of
from bench.diagnosis.sizes import Sent
from bench.diagnosis.verdict import Advice, decide
from bench.load.slopes import Interval

SENT = Sent(((896, 896),), told=True)


def found(encode: float, prefill: float, spread: float = 0.02) -> Findings:
    """Costs in ms for 1,000 tokens; the largest picture has 1,024."""
    measured = swept([(encode * more / 1e6, prefill * more / 1e6) for more in (1 - spread, 1.0, 1 + spread)])
    gap_s = usual_gap_of(measured)
    return find(points(measured, gap_s), gap_s, LADDER, LADDER[-1])


@pytest.mark.parametrize(
    ("encode", "prefill", "objective", "advice"),
    [
        (200, 50, 500, Advice.STAY),  # a gap of 266 ms is within
        (200, 50, 100, Advice.SPLIT),  # 61 ms without the encode
        (20, 200, 100, Advice.CHUNK_FIRST),  # the encode is a tenth
        (80, 200, 100, Advice.CHUNK_FIRST),  # the encode alone is within: 92 ms
        (200, 200, 100, Advice.SPLIT_AND_CHUNK),  # neither is
    ],
)
def test_each_advice(encode: float, prefill: float, objective: float, advice: Advice) -> None:
    assert decide(found(encode, prefill), objective).advice == advice


@pytest.mark.parametrize(
    ("encode", "prefill", "objective", "about"),
    [
        (200, 50, 266, "beyond your objective"),  # the gap now
        (200, 50, 61.2, "without the encode"),  # the gap after a split
        (90, 200, 102.16, "with the encode and no prefill"),  # the encode alone
    ],
)
def test_an_interval_with_the_objective_in_it_decides_nothing(
    encode: float, prefill: float, objective: float, about: str
) -> None:
    verdict = decide(found(encode, prefill), objective)
    assert verdict.advice == Advice.OPEN
    assert about in verdict.why


def test_an_encode_that_may_be_nothing_decides_nothing() -> None:
    unsure = dataclasses.replace(found(200, 50), encode=Interval(200, -10, 410))
    assert decide(unsure, 100).advice == Advice.OPEN
    assert decide(dataclasses.replace(found(200, 50), share=None), 100).advice == Advice.OPEN


def test_wide_noise_is_never_a_verdict_for_a_split() -> None:
    assert decide(found(200, 50, spread=0.6), 100).advice == Advice.OPEN


def test_a_chunk_and_a_size_that_keep_to_the_objective_are_named() -> None:
    chunk, pixels, caches = alternatives(found(200, 50), SENT, 100)
    assert "51 ms of the longest gap" in chunk
    assert "1,792 tokens a step" in chunk  # 90 ms / 50 ms for 1,000, in whole blocks of 16
    assert "360 tokens (531 x 531)" in pixels  # 90 ms / 250 ms for 1,000
    assert "--workload" in caches


def test_what_cannot_help_is_said() -> None:
    chunk, pixels, _ = alternatives(found(200, 50), SENT, 10.0)
    assert "no chunk keeps to 10 ms" in chunk
    assert "Even 64 tokens" in pixels
    *_, caches = alternatives(found(200, 50), dataclasses.replace(SENT, pictures=10, repeated=4), 100)
    assert "4 of the 10" in caches
    assert "40%" in caches
