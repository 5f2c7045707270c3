"""Clusters with a thief, in few words."""

from core_driver import Driver

from chiasm.messages import Pause, Resume, Return
from chiasm.nouns import RequestId, WorkerId
from scheduler.stealing import Mode

PAUSE, RESUME = Pause(WorkerId("t0")), Resume(WorkerId("t0"))


def return_of(request: str) -> Return:
    return Return(RequestId(request), WorkerId("t0"))


def cluster(stealing: Mode = "yield", **config: float) -> Driver:
    """One encoder with a thief on its card, one decoder with one slot that is taken, and a queue of text."""
    driver = Driver(stealing, **config)
    driver.encoder("e0")
    driver.decoder("d0", slots=1, kv=10_000)
    driver.submit("running", output=500, deadline=1e6)
    return driver


def with_thief(stealing: Mode = "yield", **config: float) -> Driver:
    driver = cluster(stealing, **config)
    driver.thief("t0", "e0")
    return driver
