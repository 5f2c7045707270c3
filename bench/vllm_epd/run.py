"""One run: both sides at every point, in turn, and what was found."""

import secrets
import time
from collections.abc import Mapping

from rich.progress import Progress

from bench.load.answers import Answer
from bench.load.asking import Endpoint
from bench.load.driver import drive
from bench.load.journal import Journal
from bench.processor_time import BusyCores
from bench.streams import Unanswered
from bench.topologies.running import Running
from bench.topologies.turns import Wake, in_turns
from bench.vllm_epd.figures import OURS, THEIRS, Row, capacity_per_s, row
from bench.vllm_epd.plan import CAPACITY, SETTLE_S, WARMING_UP, Level, Plan, Point, requests_at

TIMEOUT_S = 600.0


class Run:
    """`series` has a row for each side at each point.

    `running` has both sides by name, ready. What `journal` has already is not measured again.
    """

    def __init__(self, plan: Plan, running: Mapping[str, Running], journal: Journal, progress: Progress) -> None:
        self.series: list[Row] = []
        self._plan = plan
        self._running = running
        self._journal = journal
        self._progress = progress
        self._task = progress.add_task("", total=2 * (len(plan.levels) + plan.rounds * plan.points))
        self._asked: str | None = None  # the side that was asked last
        self._warm: set[tuple[str, int]] = set()  # sides, and how many pictures they have been asked about

    def measure(self) -> None:
        """All of it.

        Raises:
            Unanswered: not one request of some measurement was answered, or a proxy had to ask twice for some.
            OtherRun: a file of the journal cannot be read.
            OSError: it cannot be written.
        """
        with in_turns(self._running) as wake:
            capacities = {images: self._capacity_per_s(images, wake) for images in self._plan.levels}
            for number in range(1, self._plan.rounds + 1):
                for images, capacity in capacities.items():
                    for side in (OURS, THEIRS) if number % 2 else (THEIRS, OURS):
                        for level in self._plan.levels[images]:
                            point = Point(images, level, number)
                            answers = self._answers(side, point, capacity, wake)
                            busy = self._journal.noted(_cores_at(point, side))
                            self.series.append(row(side, point, capacity, answers) | busy)

    def _capacity_per_s(self, images: int, wake: Mapping[str, Wake]) -> float:
        """Requests that vLLM's own answers a second, at most. Ours is asked too, so that both have the same past."""
        point = Point(images, Level.ALL_AT_ONCE, CAPACITY)
        _, theirs = (self._answers(side, point, 1.0, wake) for side in (OURS, THEIRS))
        return capacity_per_s(theirs)

    def _answers(self, side: str, point: Point, capacity: float, wake: Mapping[str, Wake]) -> list[Answer]:
        name = f"{point.name}, {side}"
        self._progress.update(self._task, description=name)
        answers = self._journal.get(name)
        if answers is None:
            answers, busy = self._asked_for(wake[side](), side, point, capacity)
            if not any(answer.ok for answer in answers):
                said = answers[0].error
                raise Unanswered(f"none of {len(answers)} requests was answered ({name}), the first as: {said}")
            if retries := self._running[side].retries():
                raise Unanswered(f"the proxy of {side} had to ask {retries} times more: embeddings were lost ({name})")
            self._journal.keep(_cores_at(point, side), busy)  # first, so that no finished point is without
            self._journal.put(name, answers)
        self._progress.advance(self._task)
        return answers

    def _asked_for(
        self, endpoint: Endpoint, side: str, point: Point, capacity: float
    ) -> tuple[list[Answer], dict[str, float]]:
        if self._asked not in (None, side):
            time.sleep(SETTLE_S)
        self._asked = side
        if (side, point.images) not in self._warm:  # nor is one that was started anew, to go on with a journal
            self._warm.add((side, point.images))
            cold = Point(point.images, Level.ALL_AT_ONCE, WARMING_UP)
            drive(endpoint, requests_at(cold, capacity, self._plan, secrets.token_hex()), timeout_s=TIMEOUT_S)
        planned = requests_at(point, capacity, self._plan, self._journal.nonce)
        busy = BusyCores()
        answers = drive(endpoint, planned, timeout_s=TIMEOUT_S)
        return answers, busy.so_far()


def _cores_at(point: Point, side: str) -> str:
    """What a journal calls the cores that were busy there."""
    return f"cores, {point.name}, {side}"
