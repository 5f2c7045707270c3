"""Several thieves: which of them takes what."""

import pytest
from core_driver import Driver, placed

from scheduler.finish_index import LOOKED_AT


def cluster(itl_slo_s: float = 1.0) -> Driver:
    """A decoder with one slot that is taken, and a long queue of text that may not be stolen."""
    driver = Driver(itl_slo_s=itl_slo_s, heartbeat_timeout_s=1e6)
    driver.decoder("d0", slots=1, kv=10_000)
    driver.submit("running", output=5000, deadline=1e6)
    return driver


def thief(driver: Driver, number: int, rate: float = 100.0, kv: int = 1000) -> list[str]:
    driver.encoder(f"e{number}")
    return placed(driver.thief(f"t{number}", f"e{number}", rate=rate, kv=kv))


def steal(driver: Driver, name: str, output: int = 10, text: int = 10) -> list[str]:
    return placed(driver.submit(name, text=text, output=output, stealable=True, deadline=1e6))


def test_who_owes_least_but_would_break_the_objective_hides_nobody() -> None:
    driver = Driver(itl_slo_s=0.025, heartbeat_timeout_s=1e6)
    driver.decoder("d0", slots=8, kv=100_000)
    for index in range(8):
        driver.submit(f"running-{index}", output=5000, deadline=1e6)
    thief(driver, 0, rate=40.0)
    assert steal(driver, "small", output=1) == ["t0"]
    thief(driver, 1, rate=100.0)
    assert steal(driver, "large", output=500) == ["t1"]
    assert steal(driver, "next") == ["t1"]
    assert steal(driver, "a third") == []


def test_who_has_no_room_hides_nobody() -> None:
    driver = cluster()
    thief(driver, 0, kv=100)
    driver.submit("running too", output=5000, deadline=1e6)
    driver.decoder("d1", slots=8, kv=5010)
    assert steal(driver, "fills it", output=80, text=20) == ["t0"]
    thief(driver, 1, rate=50.0)
    assert steal(driver, "text") == ["t1"]


def test_who_gains_nothing_hides_nobody() -> None:
    driver = cluster()
    driver.encoder("e0")
    driver.submit("image", "a", tokens=10, deadline=1e6)
    driver.tick(600.0)
    driver.encoded("image", "e0", "a", tokens=10, seconds=0.1)
    driver.encoder("e1")
    driver.thief("t1", "e1", rate=90.0)
    driver.thief("t0", "e0")
    assert steal(driver, "text", output=4000) == ["t1"]


@pytest.mark.parametrize("impatient", [True, False])
def test_thieves_that_may_take_nothing_hide_nobody(impatient: bool) -> None:
    driver = cluster()
    for index in range(LOOKED_AT):
        thief(driver, index)
        if not impatient:  # it has what a thief may hold, which is as much as d0 has
            assert steal(driver, f"taken-{index}", output=1) == [f"t{index}"]
    if impatient:
        for index in range(LOOKED_AT):
            assert placed(driver.submit(f"image-{index}", f"a{index}", tokens=10, deadline=1e6)) == [f"e{index}"]
        for index in range(LOOKED_AT):
            driver.encoded(f"image-{index}", f"e{index}", f"a{index}", tokens=10, seconds=0.1)
    thief(driver, LOOKED_AT, rate=99.0)
    assert steal(driver, "text", output=200) == [f"t{LOOKED_AT}"]


def test_of_two_that_may_the_one_that_is_sooner_done_takes_it() -> None:
    driver = cluster()
    thief(driver, 0, rate=50.0)
    thief(driver, 1, rate=80.0)
    thief(driver, 2, rate=60.0)
    assert [steal(driver, name) for name in ("first", "second", "third", "fourth")] == [["t1"], ["t2"], ["t0"], []]
