"""Where work goes: what the core asks of a policy, and which workers a policy may choose from.

The policy of the house is `finish_index.FinishIndex`, least predicted finish; others are for comparison. Imports only
`chiasm.nouns`, the standard library and `scheduler.{finish_index,workers}`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from chiasm.nouns import WorkerId
from scheduler.finish_index import Candidate
from scheduler.workers import Worker

W = TypeVar("W", bound=Worker)
MAX_RETRY_AFTER_S = 60.0
"""Nobody is sent away for longer: predictions take every request to generate as much as it may."""


class Placement(Protocol[W]):
    """Chooses among the workers of one pool. Must be deterministic."""

    considered: list[Candidate[W]]
    """What the latest search looked at, or the best of it, for whoever asks for a reason."""

    def update(self, worker: W, eligible: bool = True) -> None:
        """A worker has joined, or what it owes, its rate, or whether it may be chosen has changed."""

    def remove(self, worker: W) -> None:
        """A worker has left."""

    def best(self, tokens: int, fits: Callable[[W], bool] | None = None) -> W | None:
        """An eligible worker that fits, where not all do, for work of so many tokens. The work goes there.

        So a policy may count on it for the next choice, and nobody asks in order to forecast.
        """


def avoiding(pool: Mapping[WorkerId, W], failed_on: frozenset[WorkerId]) -> Callable[[W], bool] | None:
    """Is a worker of `pool` none that has failed at this? Where all have, every one is as good."""
    return None if pool.keys() <= failed_on else lambda worker: worker.id not in failed_on


def seconds_of(tokens: int, tokens_per_s: float) -> float:
    """How long so many tokens take."""
    return tokens / tokens_per_s if tokens_per_s > 0 else MAX_RETRY_AFTER_S


def retry_after_s(*waits: float) -> float:
    """Whole seconds until a request that came now would have its turn, from 1 to `MAX_RETRY_AFTER_S`.

    `waits` overlap, as encoding and generating do, so the longest is the wait.
    """
    return min(max(float(math.ceil(max(waits))), 1.0), MAX_RETRY_AFTER_S)
