"""Measures a comparison: the arrangements of a group are up together and take turns, round by round.

Whatever has been measured is in the journal at once. A group of which everything is there is not even started.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

from rich.progress import Progress

from bench.load.answers import Answer
from bench.load.asking import Endpoint
from bench.load.driver import Planned, drive
from bench.load.journal import Journal
from bench.load.workloads import Workload
from bench.serve.groups import side_names
from bench.serve.measured import Contest, Measured, Side
from bench.serve.plan import Plan, in_turn
from bench.serve.staircase import at_once, by_rate, climb, steps

WARM_UP = 2  # requests of each workload, before anything of it is measured
TIMEOUT_S = 300.0  # of one request, far beyond any objective

Start = Callable[[Sequence[str]], AbstractContextManager[Mapping[str, Endpoint]]]
"""Has these sides up and ready for as long as the context lasts."""


class Unanswered(RuntimeError):
    """A server answers no request of a workload; the message has its words."""


class Comparison:
    """One run, or the rest of one that was interrupted."""

    def __init__(self, plan: Plan, groups: Sequence[Sequence[str]], journal: Journal, progress: Progress) -> None:
        self._plan = plan
        self._groups = side_names(groups)
        self._journal = journal
        self._progress = progress
        points = sum(map(len, groups)) * len(plan.workloads) * (1 + plan.amounts.rounds)
        self._task = progress.add_task("", total=points)

    def measure(self, start: Start) -> Measured:
        """All of it.

        Raises:
            Unanswered: see there.
            OtherRun, OSError: of the journal.
        """
        measured = Measured(self._plan)
        for group in self._groups:
            if all(self._journal.get(point) is not None for point in self._points(group)):
                self._measure_group(measured, dict.fromkeys(group))
                continue
            self._progress.update(self._task, description=f"starting {', '.join(group.values())}")
            with start(list(group.values())) as endpoints:
                up = {name: endpoints[what] for name, what in group.items()}
                self._warm_up(up)
                self._measure_group(measured, up)
        return measured

    def _points(self, group: Mapping[str, str]) -> list[str]:
        rounds = range(self._plan.amounts.rounds)
        return [
            point
            for workload in self._plan.workloads
            for side in group
            for point in (_burst(workload, side), *(_round(workload, side, number) for number in rounds))
        ]

    def _warm_up(self, up: Mapping[str, Endpoint]) -> None:
        """Each side answers a little of each workload, which no cache keeps for what comes."""
        for workload in self._plan.workloads:
            for name, endpoint in up.items():
                self._progress.update(self._task, description=f"warming up {name}, {workload.name}")
                answers = drive(endpoint, at_once(workload, WARM_UP, self._seed("warming up")), timeout_s=TIMEOUT_S)
                _some_must_be_answered(name, workload, answers)

    def _measure_group(self, measured: Measured, up: Mapping[str, Endpoint | None]) -> None:
        """Points that the journal has need nobody to be up."""
        for workload in self._plan.workloads:
            bursts = {name: self._measure_burst(workload, name, endpoint) for name, endpoint in up.items()}
            # The first group's fastest decides for all, so that every side meets the same rates.
            contest = measured.contests.get(workload.name) or self._contest(workload, bursts)
            measured.contests[workload.name] = contest
            contest.sides |= {name: Side(name, burst) for name, burst in bursts.items()}
        for number in range(self._plan.amounts.rounds):
            for workload in self._plan.workloads:
                for name in in_turn(list(up), number):
                    contest = measured.contests[workload.name]
                    answers = self._measure_round(workload, contest, name, up[name], number)
                    contest.sides[name].rounds.append(by_rate(answers, contest.ladder))

    def _contest(self, workload: Workload, bursts: Mapping[str, Sequence[Answer]]) -> Contest:
        capacity = max(_per_s(burst) for burst in bursts.values())
        rates = [float(f"{share * capacity:.3g}") for share in self._plan.amounts.rungs]
        return Contest(workload.name, capacity, steps(rates, self._plan.amounts.dose(workload.name).rung_s))

    def _measure_burst(self, workload: Workload, name: str, endpoint: Endpoint | None) -> list[Answer]:
        count = self._plan.amounts.dose(workload.name).burst
        what = f"{workload.name}, {name}: many at once"

        def planned() -> list[Planned]:
            return at_once(workload, count, self._seed(f"{workload.name} at once"))

        return self._point(_burst(workload, name), what, endpoint, planned)

    def _measure_round(
        self, workload: Workload, contest: Contest, name: str, endpoint: Endpoint | None, number: int
    ) -> list[Answer]:
        what = f"{workload.name}, {name}, round {number + 1} of {self._plan.amounts.rounds}"
        seed = self._seed(f"{workload.name} round {number}")
        return self._point(
            _round(workload, name, number), what, endpoint, lambda: climb(workload, contest.ladder, seed)
        )

    def _point(
        self, point: str, what: str, endpoint: Endpoint | None, planned: Callable[[], Sequence[Planned]]
    ) -> list[Answer]:
        """From the journal, or else measured now."""
        self._progress.update(self._task, description=what)
        answers = self._journal.get(point)
        if answers is None:
            assert endpoint is not None
            time.sleep(self._plan.amounts.settle_s)
            answers = drive(endpoint, planned(), timeout_s=TIMEOUT_S)
            if not any(answer.ok for answer in answers):
                raise Unanswered(f"{endpoint.url} answers nothing ({what}). The first error: {answers[0].error}")
            self._journal.put(point, answers)
        self._progress.advance(self._task)
        return answers

    def _seed(self, of: str) -> str:
        """What is drawn by it is another thing in every run, for a server may remember what the last one asked."""
        return f"{self._plan.seed} {self._journal.nonce} {of}"


def _burst(workload: Workload, side: str) -> str:
    return f"{workload.name}, {side}, at once"


def _round(workload: Workload, side: str, number: int) -> str:
    return f"{workload.name}, {side}, round {number + 1}"


def _per_s(burst: Sequence[Answer]) -> float:
    """Answers of those that came at once, over the time to the last."""
    return sum(answer.ok for answer in burst) / max(answer.ended_s for answer in burst)


def _some_must_be_answered(side: str, workload: Workload, answers: Sequence[Answer]) -> None:
    if not any(answer.ok for answer in answers):
        raise Unanswered(f"{side} answers no request of {workload.name}. The first one's error: {answers[0].error}")
