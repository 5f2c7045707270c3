"""Each verdict, and that none is given where an interval holds both answers."""

import dataclasses

import pytest
from virtual_engine import around, swept

from bench.diagnosis.findings import Findings
from bench.diagnosis.metrics import Traffic
from bench.diagnosis.verdict import Advice, decide, frequency
from bench.load.slopes import Interval


def found(encode: float, prefill: float, spread: float = 0.02, **more: float) -> Findings:
    """Costs in ms for 1,000 tokens; the largest picture has 1,024, and beside nothing a gap is 10 ms."""
    return swept(around(encode, prefill, spread), **more).found()


@pytest.mark.parametrize(
    ("encode", "prefill", "objective", "advice"),
    [
        (200, 50, 500, Advice.STAY),  # a gap of 266 ms is within
        (200, 50, 100, Advice.SPLIT),  # 61 ms without the encode
        (20, 200, 100, Advice.CHUNK_FIRST),  # 30 ms with the encode and hardly any prefill
        (20, 75, 86.5, Advice.CHUNK_FIRST),  # whether 87 ms of prefill are within is open; but the encode is a fifth
        (200, 200, 100, Advice.SPLIT_AND_CHUNK),  # neither is enough
        (88, 300, 100, Advice.SPLIT_AND_CHUNK),  # the encode leaves no room for a block of prefill
    ],
)
def test_each_advice(encode: float, prefill: float, objective: float, advice: Advice) -> None:
    assert decide(found(encode, prefill), objective).advice == advice


def test_with_a_chunk_the_longest_gap_decides_and_not_the_encodes_share_of_what_streams_lose() -> None:
    """Steps of 10 ms, 240 for the encode, 16 chunks of 50: no chunk reaches 200 ms, and a split does."""
    seen = found(240 / 1.024, 50 / 0.064, spread=0.001, chunk=64)
    assert seen.judged.share is not None
    assert seen.judged.share.high < 0.25
    assert seen.judged.picture.longest.value == pytest.approx(300, rel=0.01)
    assert seen.judged.text.longest.value == pytest.approx(60, rel=0.01)
    assert decide(seen, 200).advice == Advice.SPLIT


@pytest.mark.parametrize(
    ("encode", "prefill", "objective", "about"),
    [
        (200, 50, 266, "whether that is beyond your objective"),  # the gap now
        (200, 50, 61.2, "the gap without the encode"),  # after a split
        (90, 200, 105, "hardly any prefill"),  # the encode alone
    ],
)
def test_an_interval_with_the_objective_in_it_decides_nothing(
    encode: float, prefill: float, objective: float, about: str
) -> None:
    verdict = decide(found(encode, prefill), objective)
    assert verdict.advice == Advice.OPEN
    assert about in verdict.why


def test_an_encode_that_may_be_nothing_decides_nothing() -> None:
    seen = found(200, 50)
    unsure = dataclasses.replace(seen.judged, cut=Interval(200, -10, 410))
    assert decide(dataclasses.replace(seen, judged=unsure), 100).advice == Advice.OPEN


def test_wide_noise_is_never_a_verdict_for_a_split() -> None:
    assert decide(found(200, 50, spread=0.6), 100).advice == Advice.OPEN


def test_the_longest_gaps_decide_and_not_their_mean() -> None:
    """Of ten pictures two make gaps of 317 ms, the others of 164."""
    costs = [(150e-6, 0.0)] * 8 + [(300e-6, 0.0)] * 2
    seen = swept(costs).found()
    mean = sum(sweep["picture", 2].stall.longest_ms for sweep in seen.sweeps) / 10
    assert mean < 200 < seen.judged.picture.longest.value
    assert decide(seen, 200).advice != Advice.STAY


def test_what_others_do_is_not_taken_for_prefill() -> None:
    """Somebody's picture holds each window up for 150 ms, so that also texts seem to make long gaps."""
    seen = found(200, 50, others_every_s=0.1, others_s=0.15)
    assert seen.alone.value >= 160
    assert seen.judged.text.longest.low > 150  # though the prefill is but 51 ms
    verdict = decide(seen, 150)
    assert verdict.advice == Advice.OPEN
    assert "beside nothing of ours" in verdict.why
    assert decide(seen, 1000).advice == Advice.STAY  # all of it together is within


def test_what_holds_for_one_at_a_time_is_no_reason_to_stay_where_several_at_once_are_beyond() -> None:
    one, several = around(200, 10), around(200, 10)
    alone = swept(one).found()
    assert decide(alone, 230).advice == Advice.STAY
    assert "Several at once were not seen" in decide(alone, 230).why
    verdict = decide(swept(one, rounds=several).found(), 230)  # one of 1,024 tokens makes 225 ms, four of 256 make 215
    assert verdict.advice == Advice.STAY
    assert "up to 4 requests at once" in verdict.why
    heavier = decide(swept(one, rounds=around(300, 10)).found(), 230)
    assert heavier.advice == Advice.OPEN
    assert "4 requests at once" in heavier.why
    assert "the verdict would be: SPLIT" in heavier.why  # texts, four at once, make 20 ms


TRAFFIC = Traffic(seconds=30.0, new_per_s=1.5, found=0.4, gaps=20_000, p99_ms=180.0)


def test_how_often_pictures_come_is_beside_the_verdict() -> None:
    seen = found(200, 50)
    said = frequency(seen, TRAFFIC, 100)
    assert "makes 1 gap of" in said
    assert "more often than one in 1 s" in said  # a hundred gaps of 10 ms
    assert "1.5 new pictures came a second" in said
    assert "40% of all were in the processor's cache" in said
    assert "about 180 ms: already beyond" in said
    assert "about 180 ms: within" in frequency(seen, TRAFFIC, 200)


def test_a_picture_in_chunks_makes_several_long_gaps_and_may_come_more_rarely() -> None:
    seen = found(200, 200, chunk=256)  # four steps of 51 ms
    said = frequency(seen, None, 50)
    assert "makes 4 gaps" in said
    assert "more often than one in 4 s" in said
    assert "not known without vLLM's metrics" in said


def test_where_nothing_is_too_long_no_frequency_is_named() -> None:
    few = dataclasses.replace(TRAFFIC, gaps=7, p99_ms=None)
    said = frequency(found(200, 50), few, 1000)
    assert "Each such request" not in said
    assert "7 gaps, too few" in said
