"""The placements that the house's is compared with, alone and in the scheduling core."""

from collections import Counter

import pytest

from bench.policies import LeastCount, Only, Random, RoundRobin
from chiasm.config import SchedulerConfig
from chiasm.messages import Encode, EncodeDone, Register, Submit
from chiasm.nouns import Embedding, Item, ItemUuid, RequestId, Role, WorkerId
from scheduler.core import Core
from scheduler.placement import Placement
from scheduler.workers import EncodeJob, EncodeWorker

POLICIES = (RoundRobin, lambda: Random("seed"), LeastCount)


def register(name: str, role: Role = Role.ENCODER, slots: int = 1, kv: int = 0, rate: float = 100.0) -> Register:
    return Register(WorkerId(name), role, "node", f"http://{name}", slots, kv, rate)


def encoders(count: int) -> list[EncodeWorker]:
    return [EncodeWorker(register(f"e{index}"), index, look_ahead=0) for index in range(count)]


def give(encoder: EncodeWorker, jobs: int, tokens: int = 10) -> None:
    for index in range(jobs):
        uuid = ItemUuid(f"{encoder.id}-{index}")
        encoder.append(EncodeJob(uuid, tokens, index, 0.0, {RequestId(uuid): None}))


def chosen(policy: Placement[EncodeWorker], times: int, tokens: int = 10) -> list[str]:
    return [worker.id for _ in range(times) if (worker := policy.best(tokens)) is not None]


def joined(policy: Placement[EncodeWorker], workers: list[EncodeWorker]) -> Placement[EncodeWorker]:
    for worker in workers:
        policy.update(worker)
    return policy


def test_round_robin_takes_each_in_turn_whatever_it_owes() -> None:
    pool = encoders(3)
    policy = joined(RoundRobin(), pool)
    give(pool[0], jobs=5)
    policy.update(pool[0])
    assert chosen(policy, 7) == ["e0", "e1", "e2", "e0", "e1", "e2", "e0"]


def test_only_one_takes_all_and_nobody_else_where_it_is_away() -> None:
    pool = encoders(3)
    policy = joined(Only("e1"), pool)
    give(pool[1], jobs=5)
    assert chosen(policy, 3) == ["e1", "e1", "e1"]
    policy.update(pool[1], eligible=False)
    assert policy.best(10) is None


def test_random_takes_all_alike_and_the_same_ones_for_the_same_seed() -> None:
    pool = encoders(2)
    first, again, other = (chosen(joined(Random(seed), pool), 400) for seed in ("a", "a", "b"))
    assert first == again != other
    assert 150 < Counter(first)["e0"] < 250


def test_least_count_takes_whoever_holds_fewest_encodes_however_large() -> None:
    pool = encoders(3)
    policy = joined(LeastCount(), pool)
    give(pool[0], jobs=2)
    give(pool[1], jobs=1, tokens=100_000)
    give(pool[2], jobs=3)
    assert chosen(policy, 2) == ["e1", "e1"]


def test_least_count_counts_what_runs_and_takes_turns_among_equals() -> None:
    pool = encoders(3)
    policy = joined(LeastCount(), pool)
    give(pool[1], jobs=1)
    pool[1].start()
    assert chosen(policy, 4) == ["e0", "e2", "e0", "e2"]


@pytest.mark.parametrize("make", POLICIES)
def test_whoever_may_not_be_chosen_does_not_fit_or_has_left_is_not(make: type[RoundRobin]) -> None:
    pool = encoders(4)
    policy = joined(make(), pool)
    policy.update(pool[0], eligible=False)
    policy.remove(pool[1])
    assert policy.best(10, lambda worker: worker.id == "e3") is pool[3]
    assert set(chosen(policy, 20)) == {"e2", "e3"}
    for worker in pool:
        policy.remove(worker)
    assert policy.best(10) is None


@pytest.mark.parametrize("make", POLICIES)
def test_the_core_places_encodes_by_it(make: type[RoundRobin]) -> None:
    core = Core(SchedulerConfig(), encoders=make())
    for index in range(2):
        core.handle(register(f"e{index}", rate=1000.0 if index else 10.0), 0.0)
    core.handle(register("d0", Role.DECODER, slots=100, kv=100_000), 0.0)
    given: Counter[WorkerId] = Counter()
    for number in range(40):
        now, request = float(number), RequestId(f"r{number}")
        item = Item(ItemUuid(f"u{number}"), "image", 100)
        [encode] = core.handle(Submit(request, (item,), 10, 10, 1e6), now)
        assert isinstance(encode, Encode)
        given[encode.worker] += 1
        embedding = Embedding(item.uuid, item.uuid, "image", {}, "tcp://e", (100, 8), "float32")
        core.handle(EncodeDone(request, encode.worker, embedding, 0.5, 3200), now + 0.5)
    core.check_integrity()
    assert min(given["e0"], given["e1"]) > 10  # least predicted finish would leave the slow one alone
