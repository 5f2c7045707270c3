"""The workers that may take a request now, few or many, against a look at each of them."""

from core_driver import register
from hypothesis import given
from hypothesis import strategies as st

from chiasm.messages import Submit
from chiasm.nouns import RequestId, Role
from scheduler.finish_index import RATE_STEP
from scheduler.pool import FEW, Pool
from scheduler.requests import LiveRequest
from scheduler.workers import DecodeWorker

WORKERS = 2 * FEW
KV_TOKENS = 100


def worker(number: int) -> DecodeWorker:
    rate = (50.0, 100.0, 350.0)[number % 3]
    return DecodeWorker(register(f"d{number}", Role.DECODER, 2, KV_TOKENS, rate), number, look_ahead=0)


def request(text: int, output: int) -> LiveRequest:
    return LiveRequest(Submit(RequestId("r"), (), text, output, 60.0), 1, now=0.0)


STEPS = st.lists(st.tuples(st.integers(0, WORKERS - 1), st.integers(0, 60), st.integers(0, 60)), max_size=150)


@given(steps=STEPS, text=st.integers(0, 120), output=st.integers(0, 50))
def test_a_worker_that_could_take_a_request_is_found_however_many_have_a_credit(
    steps: list[tuple[int, int, int]], text: int, output: int
) -> None:
    pool, workers = Pool(), [worker(number) for number in range(WORKERS)]
    for one in workers:
        pool.add(one)
        pool.update(one)
    wanted = request(text, output)
    for count, (number, kv_tokens, output_tokens) in enumerate(steps):
        one = workers[number]
        if one.admits(kv_tokens) and kv_tokens:
            one.reserve(RequestId(f"{count}"), kv_tokens, output_tokens)
        elif one.running:
            one.release(next(iter(one.running)))
        pool.update(one)
        able = [each for each in workers if each.admits(wanted.kv_tokens)]
        found = [each for _, _, each in pool.candidates(wanted, None, 0)]
        assert set(found) <= set(able)
        assert bool(found) == bool(able), "somebody has room and is not found"
        if wanted.kv_tokens == 0:  # so that none of those that would be done first is left out for want of room
            finish = {each: (each.owed + output) / each.rate.tokens_per_s for each in able}
            assert not able or finish[min(pool.candidates(wanted, None, 0))[2]] <= RATE_STEP * min(finish.values())


def test_who_is_not_allowed_or_gone_is_not_found() -> None:
    pool, workers = Pool(), [worker(number) for number in range(WORKERS)]
    for one in workers:
        pool.add(one)
        pool.update(one)
    for number, one in enumerate(workers):
        found = pool.candidates(request(1, 1), lambda each: each is not workers[-1], 0)
        assert workers[-1] not in [each for _, _, each in found]
        assert bool(found) == (number < WORKERS - 1)
        pool.remove(one)
    assert pool.candidates(request(1, 1), None, 0) == []
