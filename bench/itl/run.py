"""Measures: all drives of all sides, block by block, each side in turn, and kept in a journal as they come."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.progress import Progress

from bench.itl.plan import SEED, Drive, Plan
from bench.itl.sides import Side
from bench.itl.slots import Seen, read
from bench.itl.traffic import requests
from bench.load.answers import Answer
from bench.load.driver import drive as send
from bench.load.journal import Journal

TIMEOUT_S = 300.0


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


def settings(plan: Plan, sides: Sequence[str], what: str) -> dict[str, Any]:
    """All that decides what is measured, for a journal. `what` is the model, or the endpoint."""
    return {"seed": SEED, "measured": what, "sides": list(sides), **asdict(plan)}


def finished(plan: Plan, sides: Sequence[str], journal: Journal | None) -> dict[Step, list[Answer]]:
    """What the journal has.

    Raises:
        OtherRun: a file of it cannot be read.
    """
    found = {step: journal.get(step.name) for step in steps(plan, sides)} if journal is not None else {}
    return {step: answers for step, answers in found.items() if answers is not None}


def measure(
    plan: Plan,
    sides: Mapping[str, Side],
    done: Mapping[Step, list[Answer]],
    journal: Journal | None,
    progress: Progress,
) -> dict[Step, list[Answer]]:
    """What is not `done`, added to it."""
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


def _measured(plan: Plan, step: Step, side: Side, tell: Any) -> list[Answer]:
    slots = step.drive.slots_for(side.encoded, step.block)
    # Every side is asked the same at the same times, but that answers are as long as they may be to end by the clock.
    dice = random.Random(f"{SEED} {step.block} {step.drive.name}")
    planned = requests(plan, step.drive, slots, side.texts, side.gaps_s[step.drive.streams], dice)
    return send(side.endpoint, planned, timeout_s=TIMEOUT_S, on_answer=tell)


def slots_of(found: Mapping[Step, Sequence[Answer]]) -> list[Seen]:
    """What the answers tell of all slots.

    Raises:
        Unmeasurable: the server does not count prompt tokens.
    """
    return [one for step, answers in found.items() for one in read(answers, step.drive, step.side, step.block)]
