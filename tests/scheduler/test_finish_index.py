"""The index of workers against a look at each of them."""

import weakref

from core_driver import register
from hypothesis import given
from hypothesis import strategies as st

from chiasm.nouns import Role
from scheduler.finish_index import LOOKED_AT, RATE_STEP, FinishIndex
from scheduler.workers import DecodeWorker


def worker(order: int, rate: float = 100.0) -> DecodeWorker:
    return DecodeWorker(register(f"d{order}", Role.DECODER, slots=8, kv=1000, rate=rate), order, look_ahead=0)


STEPS = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 500), st.sampled_from([10.0, 99.0, 100.0, 350.0]), st.integers(0, 3)),
    max_size=120,
)


@given(steps=STEPS, tokens=st.integers(0, 300))
def test_the_best_is_within_one_step_of_rate_of_the_truly_best(
    steps: list[tuple[int, int, float, int]], tokens: int
) -> None:
    workers = [worker(order) for order in range(12)]
    index: FinishIndex[DecodeWorker] = FinishIndex()
    known: dict[int, bool] = {}
    for order, owed, rate, what in steps:
        one = workers[order]
        one.owed, one.rate.tokens_per_s = owed, rate
        if what == 0 and order in known:
            index.remove(one)
            del known[order]
        else:
            known[order] = what != 1
            index.update(one, eligible=known[order])
        index.check_integrity()

        def finish(one: DecodeWorker) -> float:
            return (one.owed + tokens) / one.rate.tokens_per_s

        eligible = [workers[order] for order, may in known.items() if may]
        best = index.best(tokens, lambda _: True)
        assert (best is None) == (not eligible)
        if best is not None:
            assert finish(best) <= RATE_STEP * min(map(finish, eligible))


def test_only_so_many_are_looked_at_and_nobody_is_lost_by_it() -> None:
    index: FinishIndex[DecodeWorker] = FinishIndex()
    workers = [worker(order) for order in range(2 * LOOKED_AT)]
    for order, one in enumerate(workers):
        one.owed = order
        index.update(one)
    looked_at: list[int] = []

    def fits(one: DecodeWorker) -> bool:
        looked_at.append(one.arrival)
        return one.arrival >= 2 * LOOKED_AT - 1

    assert index.best(1, fits) is None
    assert looked_at == list(range(LOOKED_AT))
    assert index.best(1, lambda _: True) is workers[0]


def test_workers_that_left_are_not_kept_behind_one_that_stays() -> None:
    index: FinishIndex[DecodeWorker] = FinishIndex()
    index.update(worker(0))
    left: weakref.WeakSet[DecodeWorker] = weakref.WeakSet()
    for order in range(1, 1000):
        other = worker(order)
        other.owed = order
        left.add(other)
        index.update(other)
        index.remove(other)
    del other
    assert len(left) < 20


def test_workers_that_left_together_are_not_kept_either() -> None:
    index: FinishIndex[DecodeWorker] = FinishIndex()
    workers = [worker(order) for order in range(1000)]
    for order, one in enumerate(workers):
        one.owed = order
        index.update(one)
    left = weakref.WeakSet(workers[1:])
    for one in workers[1:]:
        index.remove(one)
    del one, workers
    assert len(left) < 20
