"""One run: both sides at every point, in turn, and what was found."""

import time
from collections.abc import Mapping

from rich.progress import Progress

from bench.load.answers import Answer
from bench.load.asking import Endpoint
from bench.load.driver import drive
from bench.load.figures import figures
from bench.load.journal import Journal
from bench.streams import Unanswered
from bench.vllm_epd.figures import OURS, THEIRS, Row, row
from bench.vllm_epd.plan import CAPACITY, SETTLE_S, WARMING_UP, Level, Plan, Point, requests_at

TIMEOUT_S = 600.0


class Run:
    """`series` has a row for each side at each point.

    `endpoints` has both sides by name. What `journal` has already is not measured again.
    """

    def __init__(
        self, plan: Plan, endpoints: Mapping[str, Endpoint], journal: Journal | None, progress: Progress
    ) -> None:
        self.series: list[Row] = []
        self._plan = plan
        self._endpoints = endpoints
        self._journal = journal
        self._progress = progress
        self._task = progress.add_task("", total=2 * len(plan.images) * (1 + plan.rounds * len(plan.levels)))
        self._asked: str | None = None  # the side that was asked last
        self._warm: set[str] = set()  # sides that have been asked at all

    def measure(self) -> None:
        """All of it.

        Raises:
            Unanswered: not one request of some measurement was answered.
            OtherRun: a file of the journal cannot be read.
            OSError: it cannot be written.
        """
        capacities = {images: self._capacity_per_s(images) for images in self._plan.images}
        for number in range(1, self._plan.rounds + 1):
            for images, capacity_per_s in capacities.items():
                for side in (OURS, THEIRS) if number % 2 else (THEIRS, OURS):
                    for level in self._plan.levels:
                        point = Point(images, level, number)
                        answers = self._answers(side, point, capacity_per_s)
                        self.series.append(row(side, point, capacity_per_s, answers))

    def _capacity_per_s(self, images: int) -> float:
        """Requests that vLLM's own answers a second, at most. Ours is asked too, so that both have the same past."""
        point = Point(images, Level.ALL_AT_ONCE, CAPACITY)
        _, theirs = (self._answers(side, point, 1.0) for side in (OURS, THEIRS))
        return figures(theirs)["request_throughput"]

    def _answers(self, side: str, point: Point, capacity_per_s: float) -> list[Answer]:
        name = f"{point.name}, {side}"
        self._progress.update(self._task, description=name)
        answers = self._journal.get(name) if self._journal is not None else None
        if answers is None:
            answers = self._asked_for(side, point, capacity_per_s)
            if self._journal is not None:
                self._journal.put(name, answers)
        if not any(answer.ok for answer in answers):
            raise Unanswered(f"none of {len(answers)} requests was answered ({name}), the first as: {answers[0].error}")
        self._progress.advance(self._task)
        return answers

    def _asked_for(self, side: str, point: Point, capacity_per_s: float) -> list[Answer]:
        if self._asked not in (None, side):
            time.sleep(SETTLE_S)
        self._asked = side
        if side not in self._warm:  # nor is one that was started anew, to go on with a journal
            self._warm.add(side)
            least, _ = self._plan.requests
            cold = requests_at(Point(point.images, Level.ALL_AT_ONCE, WARMING_UP), capacity_per_s, self._plan)
            drive(self._endpoints[side], cold[:least], timeout_s=TIMEOUT_S)
        planned = requests_at(point, capacity_per_s, self._plan)
        return drive(self._endpoints[side], planned, timeout_s=TIMEOUT_S)
