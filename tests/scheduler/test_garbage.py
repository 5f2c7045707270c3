"""What the host relies on when it spares the collector the queue: the core makes no reference cycles."""

import gc

import pytest
from core_driver import Driver

from chiasm.nouns import Role
from scheduler.garbage import sparing_what_waits

pytestmark = pytest.mark.slow


def play() -> Driver:
    """Requests of every kind through a life of every kind, and the loss of every worker."""
    driver = Driver(look_ahead=1, cached_items=1)
    for worker in ("e0", "e1"):
        driver.encoder(worker)
    for worker in ("d0", "d1"):
        driver.decoder(worker)
    driver.decoder("w0", role=Role.WHOLE)
    driver.thief("t0", "e0")
    for number in range(20):
        driver.submit(f"text-{number}", stealable=True)
        driver.submit(f"image-{number}", f"a{number}", f"b{number % 3}")
    driver.tick(5.0)
    driver.encoded("image-0", "e0", "a0")
    driver.encode_failed("image-0", "e1", "b0")
    driver.decoded("text-0", "d0")
    driver.decode_failed("text-1", "d1")
    driver.cancel("image-1")
    for worker in ("d0", "e0", "t0", "d1", "e1", "w0"):
        driver.lost(worker)
    driver.decoded("text-2", "d0")
    driver.cancel("text-3")
    driver.tick(100.0)
    return driver


def test_the_core_makes_no_reference_cycles() -> None:
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        core = play().core  # itself it may be one: it ends with its process
        gc.collect()
        found = {type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("scheduler")}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert core.live < 40
    assert not found


def test_the_collector_is_as_it_was_afterwards() -> None:
    before = gc.get_threshold()
    with sparing_what_waits():
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == before[0]
        assert min(gc.get_threshold()[1:]) > 1_000_000
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
