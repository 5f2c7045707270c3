"""The placements that `scheduler.finish_index.FinishIndex` is compared with (`scheduler.placement.Placement`).

Plain forms of what load balancers do: none of them knows how fast an encoder is, or how large a picture.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from scheduler.finish_index import Candidate, candidate
from scheduler.workers import EncodeWorker


class _InTurn(ABC):
    """Keeps the encoders of one pool, whoever was chosen longest ago first."""

    def __init__(self) -> None:
        self.considered: list[Candidate[EncodeWorker]] = []
        self._encoders: dict[int, EncodeWorker] = {}  # by `Worker.arrival`

    def update(self, worker: EncodeWorker, eligible: bool = True) -> None:
        """A worker has joined, or what it owes, its rate, or whether it may be chosen has changed."""
        if eligible:
            self._encoders[worker.arrival] = worker
        else:
            self.remove(worker)

    def remove(self, worker: EncodeWorker) -> None:
        """A worker has left."""
        self._encoders.pop(worker.arrival, None)

    def best(self, tokens: int, fits: Callable[[EncodeWorker], bool] | None = None) -> EncodeWorker | None:
        """An eligible worker that fits, where not all do, for work of so many tokens."""
        encoders = [encoder for encoder in self._encoders.values() if fits is None or fits(encoder)]
        self.considered = [candidate(encoder, tokens) for encoder in encoders]
        if not encoders:
            return None
        chosen = self._choose(encoders)
        self._encoders[chosen.arrival] = self._encoders.pop(chosen.arrival)  # to the end
        return chosen

    @abstractmethod
    def _choose(self, encoders: Sequence[EncodeWorker]) -> EncodeWorker:
        """One of these; whoever was chosen longest ago comes first."""


class Only(_InTurn):
    """One worker, as if there were no other."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def update(self, worker: EncodeWorker, eligible: bool = True) -> None:
        """See there."""
        super().update(worker, eligible and worker.id == self._name)

    def _choose(self, encoders: Sequence[EncodeWorker]) -> EncodeWorker:
        return encoders[0]


class RoundRobin(_InTurn):
    """Each in turn."""

    def _choose(self, encoders: Sequence[EncodeWorker]) -> EncodeWorker:
        return encoders[0]


class Random(_InTurn):
    """Any, all with the same chance; the same ones again for the same `seed`."""

    def __init__(self, seed: str) -> None:
        super().__init__()
        self._chance = random.Random(seed)

    def _choose(self, encoders: Sequence[EncodeWorker]) -> EncodeWorker:
        return self._chance.choice(encoders)


class LeastCount(_InTurn):
    """Whoever holds the fewest encodes, running and waiting; of several, each in turn."""

    def _choose(self, encoders: Sequence[EncodeWorker]) -> EncodeWorker:
        return min(encoders, key=lambda encoder: len(encoder.running) + len(encoder.waiting))
