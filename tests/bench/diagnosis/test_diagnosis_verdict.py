"""Each verdict, and that none is given where an interval holds both answers."""

import dataclasses
import random

import pytest
from virtual_engine import around, swept

from bench.diagnosis.findings import Findings
from bench.diagnosis.metrics import Traffic
from bench.diagnosis.verdict import Advice, decide, frequency

pytestmark = pytest.mark.slow


def found(encode: float, prefill: float, spread: float = 0.02, **more: float) -> Findings:
    """Costs in ms for 1,000 tokens; the largest picture has 1,024, and beside nothing a gap is 10 ms."""
    return swept(around(encode, prefill, spread), **more).found()


@pytest.mark.parametrize(
    ("encode", "prefill", "objective", "advice"),
    [
        (200, 50, 500, Advice.STAY),  # a gap of 266 ms is within
        (200, 50, 100, Advice.SPLIT),  # 61 ms without the encode
        (20, 200, 100, Advice.CHUNK_FIRST),  # 30 ms with the encode and hardly any prefill
        (20, 75, 86.5, Advice.CHUNK_FIRST),  # whether 87 ms of prefill are within is open; a smaller chunk surely is
        (60, 60, 100, Advice.CHUNK_FIRST),  # each alone is enough, 72 ms, and a chunk is less work
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


def test_wide_noise_is_never_a_verdict_for_a_split() -> None:
    assert decide(found(200, 50, spread=0.6), 100).advice == Advice.OPEN


def test_some_gaps_beyond_the_objective_are_no_reason_to_stay_though_their_mean_is_within() -> None:
    """Of ten pictures two make gaps of 317 ms, the others of 164."""
    seen = swept([(150e-6, 0.0)] * 8 + [(300e-6, 0.0)] * 2).found()
    assert seen.judged.picture.longest.value == pytest.approx(194, abs=1)
    assert decide(seen, 200).advice == Advice.OPEN


@pytest.mark.parametrize(("sweeps", "times"), [(3, 500), (10, 150)])
def test_where_the_truth_is_the_objective_itself_hardly_any_verdict_is_given(sweeps: int, times: int) -> None:
    """An interval of 95 % lets one in twenty through; three standard errors are more than 3 %."""
    dice, given = random.Random(7), 0
    for _ in range(times):
        seen = swept([(dice.gauss(200e-6, 30e-6), 50e-6) for _ in range(sweeps)]).found()
        given += decide(seen, 10 + 1.024 * 250).advice != Advice.OPEN
    assert given <= 0.08 * times


def test_a_split_is_not_said_to_be_the_only_way_where_a_smaller_chunk_is_enough_or_may_be() -> None:
    assert "A split alone would be enough, too" in decide(found(60, 60), 100).why
    assert "A split alone would not be" in decide(found(20, 200), 100).why
    assert "A split alone may be enough, or not" in decide(found(20, 75), 86.5).why
    unsure = decide(found(88, 50), 100)  # a step with the encode is 100 ms, and 1 with a block of prefill
    assert unsure.advice == Advice.SPLIT
    assert "A smaller prefill chunk may be enough, too, or not" in unsure.why
    assert "A smaller prefill chunk would not be enough" in decide(found(200, 50), 100).why


def test_streams_that_are_slow_anyway_are_judged_where_there_is_room_for_prefill() -> None:
    """Others make every gap 80 ms; a picture adds 317 to one, and a text 10."""
    seen = found(300, 10, spread=0.005, others_every_s=0.0, others_s=0.07)
    assert seen.alone.value == pytest.approx(80)
    assert decide(seen, 100).advice == Advice.SPLIT
    assert decide(seen, 79).advice == Advice.OPEN


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
    assert decide(alone, 240).advice == Advice.STAY
    assert "Several at once were not seen" in decide(alone, 240).why
    verdict = decide(swept(one, rounds=several).found(), 240)  # one of 1,024 tokens makes 225 ms, as do four of 256
    assert verdict.advice == Advice.STAY
    assert "up to 4 requests at once" in verdict.why
    heavier = decide(swept(one, rounds=around(300, 10)).found(), 240)
    assert heavier.advice == Advice.OPEN
    assert "4 requests at once" in heavier.why
    assert "the verdict would be: SPLIT" in heavier.why  # texts, four at once, make 20 ms


TRAFFIC = Traffic(seconds=30.0, new_per_s=1.5, found=0.4, gaps=20_000, p99_ms=180.0)


def test_how_often_pictures_come_is_beside_the_verdict() -> None:
    seen = found(200, 50)
    said = frequency(seen, TRAFFIC, 100)
    assert "made 1 gap of" in said
    assert "more often than about one in 1.26 s" in said  # a hundred gaps of 10 ms, and 256 of falling behind
    assert "1.5 new pictures came a second" in said
    assert "40% of all were in the processor's cache" in said
    assert "about 180 ms: already beyond" in said
    assert "about 180 ms: within" in frequency(seen, TRAFFIC, 200)


def test_a_picture_in_chunks_makes_several_long_gaps_and_may_come_more_rarely() -> None:
    seen = found(200, 200, chunk=256)  # four steps of 51 ms
    said = frequency(seen, None, 50)
    assert "made 4 gaps" in said
    assert "more often than about one in 4.41 s" in said
    assert "not known without vLLM's metrics" in said


def test_where_nothing_is_too_long_no_frequency_is_named() -> None:
    few = dataclasses.replace(TRAFFIC, gaps=7, p99_ms=None)
    said = frequency(found(200, 50), few, 1000)
    assert "each such request" not in said
    assert "7 gaps, too few" in said
