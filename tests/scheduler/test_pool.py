"""The workers that may take a request now, few or many, against a look at each of them."""

from core_driver import Driver, placed, register
from hypothesis import given
from hypothesis import strategies as st

from chiasm.messages import Submit
from chiasm.nouns import Item, ItemUuid, RequestId, Role
from scheduler.finish_index import RATE_STEP
from scheduler.pool import FEW, Pool
from scheduler.requests import LiveRequest, live_request
from scheduler.workers import DecodeWorker

WORKERS = 2 * FEW
KV_TOKENS = (100, 100, 60)
PREFILL = 20


def worker(number: int) -> DecodeWorker:
    rate, kv_tokens = (50.0, 100.0, 350.0)[number % 3], KV_TOKENS[number // 2 % 3]
    event = register(f"d{number}", Role.DECODER, 2, kv_tokens, rate, prefill=PREFILL)
    return DecodeWorker(event, number, look_ahead=0)


def request(text: int, output: int, image: bool = False) -> LiveRequest:
    items = (Item(ItemUuid("u"), "image", 10),) if image else ()
    return live_request(Submit(RequestId("r"), items, text, output, 60.0, streams=True), 1, now=0.0)


def pool_of(workers: list[DecodeWorker]) -> Pool:
    pool = Pool()
    for one in workers:
        pool.add(one)
        pool.update(one)
    return pool


SIZES = st.tuples(st.integers(0, WORKERS - 1), st.integers(0, 60), st.integers(0, 60), st.booleans())


@given(
    steps=st.lists(SIZES, max_size=150),
    number=st.integers(1, WORKERS),
    text=st.integers(0, 120),
    output=st.integers(0, 50),
    image=st.booleans(),
)
def test_a_worker_that_could_take_a_request_is_found_however_many_have_a_credit(
    steps: list[tuple[int, int, int, bool]], number: int, text: int, output: int, image: bool
) -> None:
    workers = [worker(each) for each in range(number)]
    pool = pool_of(workers)
    wanted = request(text, output, image)
    prefill_tokens = wanted.prefill_tokens
    largest = max(each.kv_tokens for each in workers)
    for count, (at, kv_tokens, output_tokens, prefills) in enumerate(steps):
        one = workers[at % number]
        if one.admits(kv_tokens) and kv_tokens:
            one.reserve(RequestId(f"{count}"), kv_tokens, output_tokens, 0.0, *[kv_tokens * prefills] * 2)
        elif one.running:
            one.release(next(iter(one.running)))
        pool.update(one)
        # A request that is larger than a worker's cache goes there only if no other's is large enough.
        able = [each for each in workers if each.admits(wanted.kv_tokens) and each.takes_prefill(prefill_tokens)]
        able = [each for each in able if not each.kv_tokens < wanted.kv_tokens <= largest]
        found = [each for _, _, each in pool.candidates(wanted, None, prefill_tokens)]
        assert set(found) <= set(able)
        assert bool(found) == bool(able), "somebody could take it and is not found"
        if wanted.kv_tokens == 0:  # so that none of those that would be done first is left out for want of room
            finish = {each: (each.owed + output) / each.rate.tokens_per_s for each in able}
            assert not able or finish[min(pool.candidates(wanted, None, 0))[2]] <= RATE_STEP * min(finish.values())


def test_who_is_not_allowed_or_gone_is_not_found() -> None:
    workers = [worker(number) for number in range(WORKERS)]
    pool = pool_of(workers)
    for number, one in enumerate(workers):
        found = pool.candidates(request(1, 1), lambda each: each is not workers[-1], 0)
        assert workers[-1] not in [each for _, _, each in found]
        assert bool(found) == (number < WORKERS - 1)
        pool.remove(one)
    assert pool.candidates(request(1, 1), None, 0) == []


def test_of_many_workers_the_only_one_that_is_allowed_is_found() -> None:
    workers = [worker(number) for number in range(WORKERS)]
    pool = pool_of(workers)
    for one in workers:
        assert [each for _, _, each in pool.candidates(request(1, 1), lambda each, one=one: each is one, 0)] == [one]


def test_every_one_of_many_decoders_computes_a_prompt_with_images() -> None:
    driver = Driver(queue_limit=1000)
    driver.encoder("e0", slots=99)
    decoders = [f"d{number:02}" for number in range(3 * FEW)]
    for decoder in decoders:
        driver.decoder(decoder, slots=8, kv=10_000, prefill=50)
    for index, decoder in enumerate(decoders):
        driver.submit(f"text-{index}", output=1000)
        assert driver.running(decoder) == 1
    for index in range(FEW + 2):
        driver.cancel(f"text-{index}")
    taken = []
    for index in range(len(decoders) + 3):
        driver.submit(f"image-{index}", f"u{index}", streams=True)
        taken += placed(driver.encoded(f"image-{index}", "e0", f"u{index}"))
    assert sorted(taken) == decoders


def test_a_request_waits_for_a_worker_that_is_large_enough_however_many_are_too_small() -> None:
    for number in (1, FEW, 2 * FEW):
        driver = Driver()
        driver.decoder("large", slots=4, kv=1000)
        for index in range(number):
            driver.decoder(f"small-{index}", slots=4, kv=500)
        assert placed(driver.submit("first", output=1000)) == ["large"]
        assert driver.submit("r", text=10, output=940) == []
        assert placed(driver.decoded("first", "large")) == ["large"]
