"""Measures: all drives of all sides, block by block, each side in turn, and kept in a journal as they come."""

import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.itl.plan import SEED, Drive, Plan
from bench.itl.sides import Side, warmed_up
from bench.itl.slots import Seen, read
from bench.itl.subjects import Subject
from bench.itl.traffic import requests
from bench.load.answers import Answer
from bench.load.driver import drive as send
from bench.load.journal import Journal
from bench.topologies.running import Running

TIMEOUT_S = 300.0
CHUNKS = "prefill chunks"  # a note of the journal


@dataclass(frozen=True)
class Step:
    """One drive on one side, in one block (from 1)."""

    block: int
    side: str
    drive: Drive

    @property
    def name(self) -> str:
        """As the journal calls it."""
        return f"block {self.block}, {self.side}, {self.drive.name}"


def steps(plan: Plan, sides: Sequence[str]) -> list[Step]:
    """In the order in which they are measured: each drive on every side in turn, from the other end in every block."""
    return [
        Step(block, side, drive)
        for block in range(1, plan.blocks + 1)
        for drive in plan.drives
        for side in (sides if block % 2 else reversed(sides))
    ]


def settings(plan: Plan, subject: Subject) -> dict[str, Any]:
    """All that decides what is measured, for a journal."""
    return {
        "seed": SEED,
        "model": subject.model,
        "sides": subject.sides,
        "setting": subject.described(),
        **asdict(plan),
    }


def finished(plan: Plan, sides: Sequence[str], journal: Journal | None) -> dict[Step, list[Answer]]:
    """What the journal has.

    Raises:
        OtherRun: a file of it cannot be read.
    """
    found = {step: journal.get(step.name) for step in steps(plan, sides)} if journal is not None else {}
    return {step: answers for step, answers in found.items() if answers is not None}


def warm_up(running: Mapping[str, Running], plan: Plan, console: Console) -> dict[str, Side]:
    """All sides, one after the other.

    Raises:
        Unmeasurable: see `warmed_up`.
    """
    with console.status("warming up ...") as status:
        return {name: warmed_up(name, one.endpoint, plan, status.update) for name, one in running.items()}


def measure(
    plan: Plan,
    sides: Mapping[str, Side],
    done: Mapping[Step, list[Answer]],
    journal: Journal | None,
    console: Console,
) -> dict[Step, list[Answer]]:
    """What is not `done`, added to it. How far it has come is shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        return _measure(plan, sides, done, journal, progress)


def _measure(
    plan: Plan,
    sides: Mapping[str, Side],
    done: Mapping[Step, list[Answer]],
    journal: Journal | None,
    progress: Progress,
) -> dict[Step, list[Answer]]:
    left = [step for step in steps(plan, list(sides)) if step not in done]
    total = sum(step.drive.seconds(sides[step.side].encoded) for step in left)
    task = progress.add_task("", total=total)
    found = dict(done)
    passed = 0.0
    for step in left:
        progress.update(task, description=step.name)
        side = sides[step.side]

        def tell(answer: Answer, passed: float = passed) -> None:
            progress.update(task, completed=passed + answer.ended_s)

        found[step] = _measured(plan, step, side, tell)
        if journal is not None:
            journal.put(step.name, found[step])
        passed += step.drive.seconds(side.encoded)
        progress.update(task, completed=passed)
    return found


def _measured(plan: Plan, step: Step, side: Side, tell: Callable[[Answer], None]) -> list[Answer]:
    slots = step.drive.slots_for(side.encoded, step.block)
    # What texts and pictures show decides nothing, and must be new: the endpoint may remember an earlier run.
    dice = random.Random(f"{SEED} {step.name} {secrets.token_hex()}")
    planned = requests(plan, step.drive, slots, side.texts, side.gaps_s[step.drive.streams], dice)
    return send(side.endpoint, planned, timeout_s=TIMEOUT_S, on_answer=tell)


def slots_of(found: Mapping[Step, Sequence[Answer]]) -> list[Seen]:
    """What the answers tell of all slots, in the order in which they were measured.

    Raises:
        Unmeasurable: the server does not count prompt tokens.
    """
    return [one for step, answers in found.items() for one in read(answers, step.drive, step.side, step.block)]
