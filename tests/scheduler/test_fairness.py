"""Weighted fair queueing: the clock by itself, and what it does to a core that is short of decoders."""

import pytest
from core_driver import Driver, placed
from hypothesis import given
from hypothesis import strategies as st

from chiasm.messages import Decode, Encode, Submit
from chiasm.nouns import RequestId, Role
from scheduler.events import Decision
from scheduler.fairness import FairClock


def serve(clock: FairClock, waiting: list[tuple[float, str, int]]) -> tuple[str, int]:
    """The next in turn: its tenant and its tokens."""
    waiting.sort(key=lambda one: one[0])
    tag, tenant, tokens = waiting.pop(0)
    clock.served(tag)
    return tenant, tokens


@given(
    weights=st.lists(st.sampled_from([0.5, 1.0, 2.0, 5.0]), min_size=2, max_size=4),
    sizes=st.lists(st.integers(1, 50), min_size=150, max_size=150),
)
def test_tenants_that_always_wait_are_served_in_proportion_to_their_weights(
    weights: list[float], sizes: list[int]
) -> None:
    clock = FairClock()
    names = [f"tenant {index}" for index in range(len(weights))]
    waiting = [(clock.tag(name, weights[index], 10), name, 10) for index, name in enumerate(names)]
    served = dict.fromkeys(names, 0)
    for size in sizes:
        tenant, tokens = serve(clock, waiting)
        served[tenant] += tokens
        weight = weights[names.index(tenant)]
        waiting.append((clock.tag(tenant, weight, size), tenant, size))
    shares = [served[name] / weight for name, weight in zip(names, weights, strict=True)]
    # Goyal et al., theorem 1: the shares of two differ by no more than a largest request of each.
    assert max(shares) - min(shares) <= 2 * 50 / min(weights)


def test_who_comes_back_from_idleness_neither_waits_nor_catches_up() -> None:
    clock = FairClock()
    for _ in range(100):
        clock.served(clock.tag("busy", 1.0, 10))
    back = [clock.tag("back", 1.0, 10) for _ in range(3)]
    busy = [clock.tag("busy", 1.0, 10) for _ in range(3)]
    assert back[0] < busy[0] <= back[1] < busy[1] <= back[2]


def test_what_was_used_while_nobody_waited_is_not_held_against_anyone() -> None:
    driver = Driver()
    driver.decoder("d0")
    for index in range(50):
        submit(driver, f"alone-{index}", "a")
        driver.decoded(f"alone-{index}", "d0")
    submit(driver, "first", "a")
    submit(driver, "a", "a")
    submit(driver, "b", "b")
    submit(driver, "b too", "b")
    assert drained(driver, "first", 3) == ["a", "b", "b too"]


def submit(driver: Driver, request: str, tenant: str, weight: float = 1.0, output: int = 10) -> list[str]:
    return placed(driver.do(Submit(RequestId(request), (), 10, output, 1e6, tenant, weight)))


def drained(driver: Driver, running: str, number: int) -> list[str]:
    """The requests that follow on the only slot of `d0`, one after the other."""
    order = []
    for _ in range(number):
        [decode] = driver.decoded(running, "d0")
        assert isinstance(decode, Decode)
        running = decode.request
        order.append(running)
    return order


def test_a_flood_of_one_tenant_does_not_make_another_wait_for_its_end() -> None:
    driver = Driver()
    driver.decoder("d0")
    for index in range(100):
        submit(driver, f"flood-{index}", "flood")
    submit(driver, "single", "other")
    assert drained(driver, "flood-0", 3) == ["flood-1", "single", "flood-2"]


def test_what_is_stolen_from_the_end_of_a_flood_is_nobodys_turn() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0")
    submit(driver, "flood-0", "flood")
    for index in range(1, 100):
        driver.submit(f"flood-{index}", output=10, deadline=1e6, tenant="flood", stealable=True)
    assert placed(driver.thief("t0", "e0")) == ["t0"]
    submit(driver, "single", "other")
    assert drained(driver, "flood-0", 3) == ["flood-1", "single", "flood-2"]


def test_a_weight_is_a_share() -> None:
    driver = Driver()
    driver.decoder("d0")
    submit(driver, "first", "c")
    for index in range(30):
        submit(driver, f"a-{index}", "a", weight=2.0)
        submit(driver, f"b-{index}", "b", weight=1.0)
    order = drained(driver, "first", 30)
    assert sum(request.startswith("a-") for request in order) == 20


def test_one_tenant_alone_is_served_in_order_of_arrival() -> None:
    driver = Driver()
    driver.decoder("d0")
    for index in range(20):
        submit(driver, f"r{index}", "only", output=1 + index * 7 % 50)
    assert drained(driver, "r0", 19) == [f"r{index}" for index in range(1, 20)]


def test_encoders_are_shared_fairly_too() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=99, kv=10**6, role=Role.DECODER)
    for index in range(20):
        driver.submit(f"flood-{index}", f"f{index}", tenant="flood")
    driver.submit("single", "s", tenant="other")
    assert [one.request for one in driver.encoded("flood-0", "e0", "f0") if not isinstance(one, Decode)] == ["single"]


def images_until(driver: Driver, wanted: str) -> int:
    """Works off one image after another at `e0` and `d0`. Returns as which one `wanted` was encoded."""
    encoding = [("flood-0", "f0")]
    for number in range(1, 100):
        request, uuid = encoding.pop(0)
        decisions = driver.encoded(request, "e0", uuid)
        encoding += [(one.request, one.uuid) for one in decisions if isinstance(one, Encode)]
        for one in decisions:
            if isinstance(one, Decode):
                driver.decoded(one.request, "d0")
        if request == wanted:
            return number
    raise AssertionError(f"{wanted} was not encoded")


@pytest.mark.parametrize("text_of", ["flood", "third", None])
def test_a_text_that_passes_images_makes_nobody_wait_behind_them(text_of: str | None) -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=9, kv=10**6)
    for index in range(20):
        driver.submit(f"flood-{index}", f"f{index}", tenant="flood")
    if text_of is not None:
        for index in range(3):
            assert placed(driver.submit(f"text-{index}", output=5000, tenant=text_of)) == ["d0"]
    driver.submit("single", "s", tenant="other")
    assert images_until(driver, "single") == 2


def test_a_text_that_passes_images_held_back_by_the_prefill_makes_nobody_wait_behind_them() -> None:
    driver = Driver()
    driver.encoder("e0", slots=99)
    driver.decoder("d0", slots=9, kv=10**6, prefill=50)
    for index in range(20):
        driver.submit(f"flood-{index}", f"f{index}", tenant="flood", streams=True)
        driver.encoded(f"flood-{index}", "e0", f"f{index}")
    assert placed(driver.submit("text", output=5000, tenant="flood")) == ["d0"]
    driver.submit("single", "s", tenant="other", streams=True)
    driver.encoded("single", "e0", "s")
    order = [placed_request(driver.begun("flood-0", "d0"))]
    order.append(placed_request(driver.begun(order[-1], "d0")))
    assert "single" in order


def placed_request(decisions: list[Decision]) -> str:
    [one] = decisions
    assert isinstance(one, Decode)
    return one.request


def test_images_that_wait_do_not_make_new_text_pass_that_of_others_for_longer() -> None:
    """Else what somebody had used, while nobody else wanted it, would be held against them."""
    driver = Driver(queue_limit=1000)
    driver.encoder("e0")
    driver.decoder("d0", kv=10**6)
    for index in range(20):
        driver.submit(f"flood-{index}", f"f{index}", tenant="flood")
    submit(driver, "b-0", "b")
    for index in range(1, 100):
        submit(driver, f"b-{index}", "b")
    drained(driver, "b-0", 50)
    for index in range(50):
        submit(driver, f"c-{index}", "c")
    assert sum(request.startswith("c-") for request in drained(driver, "b-50", 20)) == 10


def test_images_of_which_none_has_waited_make_up_for_nothing() -> None:
    driver = Driver(queue_limit=1000)
    driver.encoder("e0", slots=99)
    driver.decoder("d0", kv=10**6)
    submit(driver, "text-0", "texts")
    for index in range(1, 60):
        submit(driver, f"text-{index}", "texts")
    drained(driver, "text-0", 30)
    for index in range(20):
        driver.submit(f"image-{index}", f"i{index}", tenant="images")
        driver.encoded(f"image-{index}", "e0", f"i{index}")
    images = sum(request.startswith("image-") for request in drained(driver, "text-30", 14))
    assert 1 <= images <= 3  # each is as large as six texts
