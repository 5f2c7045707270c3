from collections.abc import Callable

import pytest
from blake3 import blake3

from chiasm.wire import store as store_module
from chiasm.wire.protocol import RefusalCode
from chiasm.wire.store import EmbeddingStore, StoreFull

LEASE_S = 10.0
ITEM_BYTES = 64


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Shelf:
    """A store with room for three items, its clock, and what it evicted."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.evicted: list[str] = []
        self.store = EmbeddingStore(3 * ITEM_BYTES, LEASE_S, self.evicted.append, self.clock)

    def publish(self, *keys: str) -> None:
        for key in keys:
            self.store.publish(key, bytes(ITEM_BYTES), (4, 4), "float32", "layout")

    def expire_leases(self) -> None:
        self.clock.now += LEASE_S


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_the_payload_is_held_and_not_copied(shelf: Shelf) -> None:
    payload = bytearray(range(ITEM_BYTES))
    shelf.store.publish("a", payload, (4, 4), "float32", "layout")
    item = shelf.store.pin("a")
    assert item is not None
    assert item.payload.obj is payload
    assert item.payload.readonly
    assert (item.key, item.shape, item.dtype, item.layout) == ("a", (4, 4), "float32", "layout")
    assert (shelf.store.nbytes, len(shelf.store)) == (ITEM_BYTES, 1)


def test_the_least_recently_used_goes_first(shelf: Shelf) -> None:
    shelf.publish("a", "b", "c")
    shelf.expire_leases()
    assert shelf.store.pin("a") is not None
    shelf.store.unpin("a", fetched=True)
    shelf.publish("d", "e")
    assert shelf.evicted == ["b", "c"]
    assert [key for key in "abcde" if key in shelf.store] == ["a", "d", "e"]
    assert shelf.store.nbytes == 3 * ITEM_BYTES


def test_no_more_goes_than_must(shelf: Shelf) -> None:
    shelf.publish("a", "b")
    shelf.expire_leases()
    shelf.publish("c")
    assert shelf.evicted == []


def test_a_lease_holds_until_it_expires(shelf: Shelf) -> None:
    shelf.publish("a", "b", "c")
    shelf.clock.now += LEASE_S / 2
    with pytest.raises(StoreFull):
        shelf.publish("d")
    assert "d" not in shelf.store
    shelf.clock.now += LEASE_S / 2
    shelf.publish("d")
    assert shelf.evicted == ["a"]


def test_nothing_goes_for_an_item_that_does_not_fit_in_the_end(shelf: Shelf) -> None:
    shelf.publish("a", "b")
    shelf.expire_leases()
    shelf.publish("c")
    with pytest.raises(StoreFull):
        shelf.store.publish("big", bytes(3 * ITEM_BYTES), (12, 4), "float32", "layout")
    assert shelf.evicted == []
    assert "a" in shelf.store


def test_an_item_larger_than_the_store_is_refused(shelf: Shelf) -> None:
    with pytest.raises(StoreFull):
        shelf.store.publish("big", bytes(4 * ITEM_BYTES), (16, 4), "float32", "layout")


def test_a_complete_fetch_ends_the_lease(shelf: Shelf) -> None:
    shelf.publish("a", "b", "c")
    shelf.store.pin("b")
    shelf.store.unpin("b", fetched=True)
    shelf.publish("d")
    assert shelf.evicted == ["b"]


def test_a_failed_fetch_leaves_the_lease(shelf: Shelf) -> None:
    shelf.publish("a", "b", "c")
    shelf.store.pin("b")
    shelf.store.unpin("b", fetched=False)
    with pytest.raises(StoreFull):
        shelf.publish("d")


def test_a_pinned_item_stays_until_the_last_pin_is_gone(shelf: Shelf) -> None:
    shelf.publish("a", "b", "c")
    shelf.expire_leases()
    for key in "aabc":
        shelf.store.pin(key)
    shelf.store.unpin("a", fetched=True)
    with pytest.raises(StoreFull):
        shelf.publish("d")
    shelf.store.unpin("a", fetched=True)
    shelf.publish("d")
    assert shelf.evicted == ["a"]


def test_renewing_leases_anew(shelf: Shelf) -> None:
    shelf.publish("a", "b", "c")
    shelf.expire_leases()
    assert shelf.store.renew("a")
    assert not shelf.store.renew("nothing")
    shelf.publish("d", "e")
    assert shelf.evicted == ["b", "c"]
    with pytest.raises(StoreFull):
        shelf.publish("f")


def test_publishing_what_is_held_only_leases_it_anew(shelf: Shelf) -> None:
    shelf.publish("a", "b", "c")
    held = shelf.store.pin("a")
    shelf.store.unpin("a", fetched=True)
    shelf.publish("a")
    assert shelf.store.pin("a") is held
    shelf.store.unpin("a", fetched=False)
    assert shelf.store.nbytes == 3 * ITEM_BYTES
    with pytest.raises(StoreFull):
        shelf.publish("d")


def test_evictions_are_reported_outside_the_lock() -> None:
    clock = Clock()
    seen: list[bool] = []
    ask: Callable[[str], None] = lambda key: seen.append(key in store)  # noqa: E731
    store = EmbeddingStore(ITEM_BYTES, LEASE_S, ask, clock)
    store.publish("a", bytes(ITEM_BYTES), (4, 4), "float32", "layout")
    clock.now += LEASE_S
    store.publish("b", bytes(ITEM_BYTES), (4, 4), "float32", "layout")
    assert seen == [False]


def test_what_is_not_held_is_missing(shelf: Shelf) -> None:
    assert shelf.store.pin("a") is None
    assert shelf.store.refusal("a").code is RefusalCode.MISSING


def test_reasons_are_remembered_until_the_item_comes(shelf: Shelf) -> None:
    shelf.store.refuse("a", RefusalCode.NOT_FINITE, "NaN in row 3")
    assert shelf.store.refusal("a") == (RefusalCode.NOT_FINITE, "NaN in row 3")
    shelf.publish("a")
    assert shelf.store.refusal("a").code is RefusalCode.MISSING


def test_the_oldest_reasons_are_forgotten(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "REFUSALS_REMEMBERED", 2)
    for key in "abac":
        shelf.store.refuse(key, RefusalCode.TOO_LARGE, key)
    codes = {key: shelf.store.refusal(key).code for key in "abc"}
    assert codes == {"a": RefusalCode.TOO_LARGE, "b": RefusalCode.MISSING, "c": RefusalCode.TOO_LARGE}


@pytest.mark.parametrize(
    ("payload", "shape", "dtype"),
    [
        (bytes(63), (4, 4), "float32"),
        (bytes(64), (4, 4), "float16"),
        (bytes(64), (4, 4), "complex64"),
        (b"", (0, 4), "float32"),
        (b"", (), "float32"),
        (memoryview(bytes(128))[::2], (4, 4), "float32"),
    ],
)
def test_what_is_no_such_tensor_is_refused(shelf: Shelf, payload: bytes, shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(ValueError, match=r"payload|dtype|no element"):
        shelf.store.publish("a", payload, shape, dtype, "layout")
    assert "a" not in shelf.store


@pytest.mark.parametrize("step", [1, 10, ITEM_BYTES, 1000])
def test_the_checksum_may_be_computed_in_steps(shelf: Shelf, step: int) -> None:
    payload = bytes(range(ITEM_BYTES))
    shelf.store.publish("a", payload, (4, 4), "float32", "layout")
    item = shelf.store.pin("a")
    assert item is not None
    steps = 1
    while (checksum := item.hash_some(step)) is None:
        steps += 1
    assert steps == -(-ITEM_BYTES // step)
    assert checksum == item.hash_some(step) == blake3(payload).digest(16)
