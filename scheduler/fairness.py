"""Whose turn it is: weighted fair queueing between API keys ("tenants").

Owns the virtual clock and how far each tenant has used it. Imports only the standard library.
"""

import math


class FairClock:
    """Start-time fair queueing: P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996.

    Every request gets a *tag*: when its turn would come if each tenant had a share of the service to itself, in tokens
    by weight. Served in order of tags, tenants that always wait get service in proportion to their weights, however
    many requests each has sent, and one that comes back from idleness neither waits for what others used meanwhile
    nor makes up for what it did not use.

    Not all wait for the same, so that some pass others. The clock goes no further than the first that waits: whoever
    comes later would have to wait behind all that were passed.
    """

    def __init__(self) -> None:
        self.now = 0.0  # the latest tag that was served, and none that waits is smaller
        self._used: dict[str, float] = {}  # by tenant: the end of what it has asked for so far

    def tag(self, tenant: str, weight: float, tokens: int) -> float:
        """The tag of a new request of `tenant` that costs so many tokens."""
        start = self._used.get(tenant, 0.0)
        if start < self.now:
            start = self.now
        self._used[tenant] = start + (tokens if tokens > 1 else 1) / weight
        return start

    def served(self, tag: float, waiting: float = math.inf) -> None:
        """A request of this tag has had its turn, so the clock has come so far; but not past the first that waits."""
        reached = tag if tag < waiting else waiting
        if reached > self.now:
            self.now = reached

    def catch_up(self, other: "FairClock") -> None:
        """Nobody waits by this clock, so it has not had less of the service than another one."""
        self.now = max(self.now, other.now)

    def rest(self) -> None:
        """Nobody waits, so nobody has had more than a share: whoever comes now begins anew."""
        self._used.clear()
