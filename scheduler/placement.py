"""Where work goes: the policy that the core asks, and the default one, least predicted finish.

Owns no state. Policies see workers read-only and choose; whether a worker may be chosen at all (credits, health, role)
is the core's business. Imports only `chiasm.nouns`, the standard library and its
neighbours.
"""

import math
from collections.abc import Collection, Iterable
from typing import Protocol, TypeVar

from chiasm.nouns import WorkerId
from scheduler.table import WorkerTable
from scheduler.workers import DecodeWorker, EncodeWorker, Worker

W = TypeVar("W", bound=Worker)

MAX_RETRY_AFTER_S = 60.0
"""Nobody is sent away for longer: predictions take every request to generate as much as it may."""


class Placement(Protocol):
    """Chooses a worker among candidates, of which there is at least one. Must be deterministic."""

    def encoder(self, tokens: int, candidates: Iterable[EncodeWorker]) -> EncodeWorker:
        """Where to encode an item of `tokens` tokens."""

    def decoder(self, output_tokens: int, candidates: Iterable[DecodeWorker]) -> DecodeWorker:
        """Where to generate `output_tokens` tokens; every candidate has room now."""


class LeastPredictedFinish:
    """The worker that will be done first: (tokens it owes + the new ones) / its measured rate.

    Ties go to the worker that registered first. Looks at every candidate: linear in the size of the pool.
    """

    def encoder(self, tokens: int, candidates: Iterable[EncodeWorker]) -> EncodeWorker:
        """The earliest finish, what is withheld for the encoder included."""
        return min(candidates, key=lambda worker: (worker.backlog + tokens) / worker.rate.tokens_per_s)

    def decoder(self, output_tokens: int, candidates: Iterable[DecodeWorker]) -> DecodeWorker:
        """The earliest finish if every request of its batch generates as much as it may."""
        return min(candidates, key=lambda worker: (worker.owed_output + output_tokens) / worker.rate.tokens_per_s)


def elsewhere(pool: Collection[W], failed_on: set[WorkerId]) -> Collection[W]:
    """The workers of `pool` that have not failed at this, or all of them when every one has."""
    return (failed_on and [worker for worker in pool if worker.id not in failed_on]) or pool


def retry_after_s(workers: WorkerTable, owed_output: int, has_items: bool) -> float:
    """Seconds until a request that came now would have its turn, whole, within 1 and `MAX_RETRY_AFTER_S`.

    `owed_output` counts what all live requests may still generate. Encoding and generating overlap, so the longer of
    the two waits is the wait.
    """
    wait = _seconds(owed_output, sum(worker.rate.tokens_per_s for worker in workers.all_decoders()))
    if has_items:
        encoders = workers.encoders.values()
        backlog = sum(worker.backlog for worker in encoders)
        wait = max(wait, _seconds(backlog, sum(worker.rate.tokens_per_s for worker in encoders)))
    return min(max(float(math.ceil(wait)), 1.0), MAX_RETRY_AFTER_S)


def _seconds(tokens: int, tokens_per_s: float) -> float:
    return tokens / tokens_per_s if tokens_per_s > 0 else MAX_RETRY_AFTER_S


LEAST_PREDICTED_FINISH = LeastPredictedFinish()
