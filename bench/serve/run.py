"""Measures a comparison: the arrangements of a group are up together and take turns, round by round.

Whatever has been measured is in the journal at once. A group of which everything is there is not even started.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from rich.progress import Progress

from bench.load.answers import Answer
from bench.load.driver import Planned, drive
from bench.load.journal import Journal
from bench.load.workloads import Workload
from bench.processor_time import busy_shares
from bench.serve.measured import Contest, Measured, Side
from bench.serve.plan import Plan, in_turn
from bench.serve.sides import AGAIN, side_names
from bench.serve.staircase import answered_per_s, at_once, by_rate, climb, steps, up_to
from bench.streams import Unanswered
from bench.topologies.turns import Wake

TIMEOUT_S = 300.0  # of one request, far beyond any objective

Start = Callable[[Sequence[str]], AbstractContextManager[Mapping[str, Wake]]]
"""Has these sides up and ready for as long as the context lasts."""


class Comparison:
    """One run, or the rest of one that was interrupted. Sides of one of the `groups` can be up together.

    `halves` are the encoder's cores and the decoder's.
    """

    def __init__(
        self,
        plan: Plan,
        groups: Sequence[Sequence[str]],
        halves: Sequence[str],
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._plan = plan
        self._groups = side_names(groups)
        self._halves = halves
        self._journal = journal
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def measure(self, start: Start) -> Measured:
        """All of it.

        Raises:
            Unanswered: see there.
            OtherRun, OSError: of the journal.
        """
        measured = Measured(self._plan)
        self._progress.update(self._task, total=sum(len(self._points(group)) for group in self._groups))
        for group in self._groups:
            if all(self._journal.get(point) is not None for point in self._points(group)):
                self._measure_group(measured, dict.fromkeys(group))
                continue
            self._progress.update(self._task, description=f"starting {', '.join(group.values())}")
            with self._journal.while_it_counts(), start(list(group.values())) as wake:
                up = {name: wake[what] for name, what in group.items()}
                self._warm_up(up)
                self._measure_group(measured, up)
        return measured

    def _points(self, group: Mapping[str, str]) -> list[str]:
        return [
            point(workload, side, number)
            for workload in self._plan.workloads
            for side in group
            for number in range(self._plan.amounts.rounds)
            for point in ((_burst,) if AGAIN in side else (_burst, _round))
        ]

    def _warm_up(self, up: Mapping[str, Wake]) -> None:
        """Each side answers a burst of each workload, which no cache keeps for what comes: the first batch of a size
        takes an engine longer than the next, by a quarter and more.
        """
        for workload in self._plan.workloads:
            for name, wake in up.items():
                self._progress.update(self._task, description=f"warming up {name}, {workload.name}")
                count = self._plan.amounts.dose(workload.name).burst
                answers = drive(wake(), at_once(workload, count, self._seed("warming up", name)), timeout_s=TIMEOUT_S)
                _some_must_be_answered(name, workload, answers)

    def _measure_group(self, measured: Measured, up: Mapping[str, Wake | None]) -> None:
        """Points that the journal has need nobody to be up."""
        for workload in self._plan.workloads:
            sides = {name: Side(name) for name in up}
            for name, side in sides.items():
                self._measure_burst(workload, side, up[name], 0)
            # The first group's fastest decides for all, so that every side meets the same rates.
            contest = measured.contests.get(workload.name) or self._contest(workload, sides.values())
            measured.contests[workload.name] = contest
            contest.sides |= {name: side for name, side in sides.items() if AGAIN not in name}
            contest.again |= {name: side for name, side in sides.items() if AGAIN in name}
        for number in range(self._plan.amounts.rounds):
            for workload in self._plan.workloads:
                contest = measured.contests[workload.name]
                for name in in_turn(list(up), number, f"{self._plan.seed} {workload.name}"):
                    side, wake = (contest.sides | contest.again)[name], up[name]
                    if number:
                        self._measure_burst(workload, side, wake, number)
                    if name in contest.sides:
                        self._measure_round(workload, contest, side, wake, number)

    def _contest(self, workload: Workload, sides: Iterable[Side]) -> Contest:
        capacity = max(side.most for side in sides)
        amounts = self._plan.amounts
        rates = [float(f"{share * capacity:.3g}") for share in amounts.dose(workload.name).rungs]
        return Contest(workload.name, capacity, steps(rates, self._plan.rung_s, amounts.least, self._plan.bursts))

    def _measure_burst(self, workload: Workload, side: Side, wake: Wake | None, number: int) -> None:
        count = self._plan.amounts.dose(workload.name).burst
        what = _burst(workload, side.name, number)

        def planned() -> list[Planned]:
            return at_once(workload, count, self._seed(f"{workload.name} at once {number}", side.name))

        side.bursts.append(self._point(what, wake, planned, and_busy=True))
        if (busy := self._journal.noted(_busy_at(what))) is not None:  # journals of earlier commits have none
            side.busy.append(busy)

    def _measure_round(self, workload: Workload, contest: Contest, side: Side, wake: Wake | None, number: int) -> None:
        """As far up as its first burst tells that it can come, and one rate further: the same rates in every round."""
        ladder = up_to(contest.ladder, answered_per_s(side.bursts[:1]))

        def planned() -> list[Planned]:
            seed = self._seed(f"{workload.name} round {number}", side.name)
            return climb(workload, ladder, seed, self._plan.bursts)

        side.rounds.append(by_rate(self._point(_round(workload, side.name, number), wake, planned), ladder))

    def _point(
        self, point: str, wake: Wake | None, planned: Callable[[], Sequence[Planned]], and_busy: bool = False
    ) -> list[Answer]:
        """From the journal, or else measured now; the journal is told how busy cores were, if that is wanted."""
        self._progress.update(self._task, description=point)
        answers = self._journal.get(point)
        if answers is None:
            assert wake is not None
            endpoint = wake()
            requests = planned()
            time.sleep(self._plan.amounts.settle_s)
            with busy_shares(self._halves) as busy:
                answers = drive(endpoint, requests, timeout_s=TIMEOUT_S)
            if not any(answer.ok for answer in answers):
                raise Unanswered(f"{endpoint.url} answers nothing ({point}). The first error: {answers[0].error}")
            if and_busy:
                self._journal.keep(_busy_at(point), busy)
            self._journal.put(point, answers)
        self._progress.advance(self._task)
        return answers

    def _seed(self, of: str, side: str = "") -> str:
        """What is drawn by it is another thing in every run, for a server may remember what the last one asked.

        All sides get the same, but for one that is measured a second time: it may never have been stopped.
        """
        again = side.partition(AGAIN)[2]
        return f"{self._plan.seed} {self._journal.nonce} {of}{again}"


def _burst(workload: Workload, side: str, number: int) -> str:
    return f"{workload.name}, {side}, at once {number + 1}"


def _round(workload: Workload, side: str, number: int) -> str:
    return f"{workload.name}, {side}, round {number + 1}"


def _busy_at(point: str) -> str:
    """What a journal keeps under it: how busy cores were meanwhile."""
    return f"cores busy, {point}"


def _some_must_be_answered(side: str, workload: Workload, answers: Sequence[Answer]) -> None:
    if not any(answer.ok for answer in answers):
        raise Unanswered(f"{side} answers no request of {workload.name}. The first one's error: {answers[0].error}")
