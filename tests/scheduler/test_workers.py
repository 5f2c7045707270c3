import math

import pytest
from core_driver import register

from chiasm.nouns import ItemUuid, RequestId, Role
from scheduler.rate import SAMPLE_BOUND, MeanTime, Rate
from scheduler.workers import EncodeJob, EncodeWorker


def test_a_rate_moves_towards_its_samples() -> None:
    rate = Rate(100.0)
    rate.learn(200, 1.0)
    assert rate.tokens_per_s == pytest.approx(120.0)
    for _ in range(100):
        rate.learn(200, 1.0)
    assert rate.tokens_per_s == pytest.approx(200.0)


@pytest.mark.parametrize(("tokens", "seconds"), [(100, 0.0), (100, -1.0), (100, math.nan), (100, math.inf), (0, 1.0)])
def test_a_sample_that_says_nothing_leaves_a_rate_alone(tokens: int, seconds: float) -> None:
    rate = Rate(100.0)
    rate.learn(tokens, seconds)
    assert rate.tokens_per_s == 100.0


def test_one_wild_sample_does_not_carry_a_rate_away() -> None:
    rate = Rate(100.0)
    rate.learn(10**9, 1e-300)
    assert rate.tokens_per_s <= 100.0 * SAMPLE_BOUND


def test_a_mean_time_begins_with_its_first_sample_and_no_wild_one_carries_it_away() -> None:
    mean = MeanTime()
    mean.learn(2.0)
    assert mean.seconds == 2.0
    mean.learn(1e9)
    assert 2.0 < mean.seconds <= 2.0 * SAMPLE_BOUND
    mean.learn(math.nan)
    assert 2.0 < mean.seconds <= 2.0 * SAMPLE_BOUND


def test_an_encode_is_measured_with_the_work_that_lay_ahead_of_it() -> None:
    encoder = EncodeWorker(register("e0", Role.ENCODER, slots=2, rate=100.0), arrival=1, look_ahead=0)
    for arrival, uuid in enumerate(("a", "b")):
        encoder.append(EncodeJob(ItemUuid(uuid), 100, arrival, 0.0, {RequestId("r"): None}))
    (first, _), (second, _) = encoder.start()
    encoder.learn(first, 100, 1.0)
    encoder.learn(second, 100, 2.0)  # an engine of 100 tokens/s that works them off in turn
    assert encoder.rate.tokens_per_s == pytest.approx(100.0)
    assert encoder.encode_time.seconds == pytest.approx(1.0)
