"""The landing area: room, pins, and what becomes of failed and idle items."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoder.landing import ItemState, Landing


def land(landing: Landing, key: str, content: bytes) -> None:
    landing.item(key).state = ItemState.FETCHING
    landing.open_buffer(key, len(content))[:] = content
    landing.settle(key, ok=True)


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "landed", capacity_bytes=100)


def test_a_landed_item_is_a_file_with_its_bytes(landing: Landing) -> None:
    assert landing.reserve("r1", {"a": 4})
    assert "a" not in landing
    land(landing, "a", b"abcd")
    assert "a" in landing
    assert landing.item("a").path.read_bytes() == b"abcd"


def test_an_item_held_in_another_size_is_told(landing: Landing) -> None:
    landing.reserve("r1", {"a": 4, "b": 8})
    assert landing.otherwise({"a": 4, "b": 12, "c": 1}) == {"b": 8}


def test_a_pinned_item_is_not_evicted(landing: Landing) -> None:
    landing.reserve("r1", {"a": 60})
    land(landing, "a", bytes(60))
    assert not landing.reserve("r2", {"b": 60})
    landing.release("r1", {"a"})
    assert "a" in landing  # kept for others until its room is needed
    path = landing.item("a").path
    assert landing.reserve("r2", {"b": 60})
    assert "a" not in landing
    assert not path.exists()


def test_room_is_reserved_for_all_items_or_for_none(landing: Landing) -> None:
    landing.reserve("r1", {"a": 60})
    assert not landing.reserve("r2", {"b": 30, "c": 30})
    assert landing.reserve("r3", {"d": 40})  # r2 holds nothing


def test_an_item_is_shared_by_its_requests(landing: Landing) -> None:
    landing.reserve("r1", {"a": 60})
    assert landing.reserve("r2", {"a": 60})
    land(landing, "a", bytes(60))
    landing.release("r1", {"a"})
    assert not landing.reserve("r3", {"b": 60})  # r2 still has it
    landing.release("r2", {"a"})
    assert landing.reserve("r3", {"b": 60})


def test_what_a_step_loads_outlives_its_request(landing: Landing) -> None:
    landing.reserve("r1", {"a": 60})
    land(landing, "a", bytes(60))
    landing.pin("a", "step 1")
    landing.release("r1", {"a"})
    assert not landing.reserve("r2", {"b": 60})
    landing.release("step 1", {"a"})
    assert landing.reserve("r2", {"b": 60})


def test_the_least_recently_used_goes_first(landing: Landing) -> None:
    for key in ("a", "b"):
        landing.reserve(key, {key: 40})
        land(landing, key, bytes(40))
        landing.release(key, {key})
    landing.reserve("again", {"a": 40})
    landing.release("again", {"a"})
    landing.reserve("r", {"c": 40})
    assert "a" in landing
    assert "b" not in landing


def test_a_failed_fetch_tells_who_waits_and_leaves_no_file(landing: Landing) -> None:
    landing.reserve("r1", {"a": 4})
    landing.reserve("r2", {"a": 4})
    item = landing.item("a")
    item.state = ItemState.FETCHING
    landing.open_buffer("a", 4)
    assert landing.settle("a", ok=False) == {"r1", "r2"}
    assert not item.path.exists()
    landing.release("r1", {"a"})
    landing.release("r2", {"a"})
    assert landing.reserve("r3", {"b": 100})


def test_what_nobody_waits_for_any_more_lands_and_may_go(landing: Landing) -> None:
    landing.reserve("r1", {"a": 60})
    landing.item("a").state = ItemState.FETCHING
    landing.release("r1", {"a"})
    assert not landing.reserve("r2", {"b": 60})  # the fetching thread still writes to it
    landing.open_buffer("a", 60)
    landing.settle("a", ok=True)
    assert landing.reserve("r2", {"b": 60})


def test_a_size_that_was_not_announced_is_refused(landing: Landing) -> None:
    landing.reserve("r1", {"a": 4})
    with pytest.raises(OSError, match="announced"):
        landing.open_buffer("a", 5)


def test_more_than_it_ever_holds_does_not_fit(landing: Landing) -> None:
    assert landing.fits({"a": 60, "b": 40})
    assert not landing.fits({"a": 60, "b": 41})


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 60), st.booleans()), max_size=40))
def test_it_never_holds_more_than_its_capacity(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("landed")
    landing = Landing(folder, capacity_bytes=100)
    sizes: dict[str, int] = {}
    for number, (key, first_size, release) in enumerate(steps):
        size = sizes.setdefault(key, first_size)
        if landing.reserve(str(number), {key: size}) and landing.item(key).state is ItemState.RESERVED:
            land(landing, key, bytes(size))
        if release:
            landing.release(str(number), {key} if key in landing else set())
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 100
