"""Measures: a pilot, which tells how long slots must be, and then all drives of all sides, block by block, each side in
turn. All of it is kept in a journal as it comes.
"""

import random
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.itl import traffic
from bench.itl.plan import LEAD_IN_S, SEED, Drive, Plan
from bench.itl.points import Row
from bench.itl.sides import Side, warmed_up
from bench.itl.slots import Seen, Unmeasurable, read
from bench.itl.subjects import Subject
from bench.load.answers import Answer
from bench.load.journal import Journal
from bench.topologies.turns import in_turns

KV = "kv_token_bytes"  # what a journal notes them under


@dataclass(frozen=True)
class Step:
    """One drive on one side, in one block (from 1; 0 is the pilot)."""

    block: int
    side: str
    drive: Drive

    @property
    def name(self) -> str:
        """As the journal calls it."""
        return (
            f"block {self.block}, {self.side}, {self.drive.name}"
            if self.block
            else f"pilot, {self.side}, {self.drive.name}"
        )


@dataclass(frozen=True)
class Measured:
    """All there is."""

    plan: Plan  # with the times that the pilot told
    slots: Sequence[Seen]
    chunks: Mapping[str, Sequence[int]]  # prefill chunks of each side's calibrated engines, in tokens
    kv_token_bytes: int | None  # None where nobody tells
    commit: str  # that has measured it

    @property
    def side_rows(self) -> list[Row]:
        """What the sides were, for the report."""
        slots_s = {f"slot_s_{drive.name}": drive.slot_s for drive in self.plan.drives}
        return [
            {"what": "side", "side": side, "prefill_chunk_tokens": list(chunks), **slots_s}
            for side, chunks in self.chunks.items()
        ]


Answers = dict[Step, list[Answer]]


def measure(plan: Plan, subject: Subject, folder: Path | None, console: Console) -> Measured:
    """What the journal in `folder` has is not measured again; engines start only if something is missing.

    Raises:
        Unmeasurable, OtherRun, OSError: see there.
        Also what `Subject.up` raises.
    """
    with _journal(folder, _settings(plan, subject)) as journal:
        pilot = _pilot_steps(plan, subject.sides)
        found = _finished(pilot, journal)
        timed = _timed(plan, found) if len(found) == len(pilot) else None
        if timed is not None:
            found |= _finished(steps(timed, subject.sides), journal)
        if timed is None or len(found) < len(pilot) + len(steps(timed, subject.sides)):
            starting = console.status(f"starting {', '.join(subject.sides)} ...")
            with journal.while_it_counts(), starting as status, subject.up() as running, in_turns(running) as wake:
                status.update("warming up ...")
                sides = {name: warmed_up(name, wake[name], plan, status.update) for name in running}
                for name, one in running.items():
                    journal.note(_chunks_of(name), list(one.chunks))
                if kv_token_bytes := subject.kv_token_bytes():
                    journal.note(KV, kv_token_bytes)
                for step in pilot:
                    if step not in found:
                        status.update(f"timing the largest carriers: {step.side}, {step.drive.name} ...")
                        _keep(found, step, _piloted(step, sides[step.side]), journal)
                status.stop()
                timed = _timed(plan, found)
                _announce(timed, sides, console)
                _measure(timed, sides, found, journal, console)
        every = steps(timed, subject.sides)
        slots = [one for step in every for one in read(found[step], step.drive, step.side, step.block)]
        chunks = {name: journal.noted(_chunks_of(name)) or [] for name in subject.sides}
        return Measured(timed, slots, chunks, journal.noted(KV), journal.commit)


def steps(plan: Plan, sides: Sequence[str]) -> list[Step]:
    """In the order in which they are measured: each drive on every side in turn, from the other end in every block."""
    return [
        Step(block, side, drive)
        for block in range(1, plan.blocks + 1)
        for drive in plan.drives
        for side in (sides if block % 2 else reversed(sides))
    ]


def _settings(plan: Plan, subject: Subject) -> dict[str, object]:
    """All that decides what is measured, for a journal."""
    return {"seed": SEED, **subject.described(), "plan": asdict(plan)}


@contextmanager
def _journal(folder: Path | None, told: Mapping[str, object]) -> Iterator[Journal]:
    with ExitStack() as stack:
        kept = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chiasm-itl-")))
        yield Journal(kept, told)


def _chunks_of(side: str) -> str:
    return f"prefill chunks of {side}"


def _announce(plan: Plan, sides: Mapping[str, Side], console: Console) -> None:
    minutes = plan.seconds([side.encoded for side in sides.values()]) / 60
    slots = ", ".join(f"{drive.slot_s:g} s ({drive.name})" for drive in plan.drives)
    console.print(f"Slots of {slots}. Minutes for {plan.blocks} of all of them on each side: {minutes:.0f}.")


def _pilot_steps(plan: Plan, sides: Sequence[str]) -> list[Step]:
    return [Step(0, side, drive) for drive in plan.drives for side in sides]


def _finished(wanted: Sequence[Step], journal: Journal) -> Answers:
    found = {step: journal.get(step.name) for step in wanted}
    return {step: answers for step, answers in found.items() if answers is not None}


def _keep(found: Answers, step: Step, answers: list[Answer], journal: Journal) -> None:
    found[step] = answers
    journal.put(step.name, answers)


def _timed(plan: Plan, found: Mapping[Step, Sequence[Answer]]) -> Plan:
    """By the slowest side."""
    needed_s: dict[str, float] = {}
    for step, answers in found.items():
        if step.block == 0:
            longest_s = max(answer.ended_s - answer.due_s for answer in answers)
            needed_s[step.drive.name] = max(longest_s, needed_s.get(step.drive.name, 0.0))
    return plan.timed(needed_s)


def _piloted(step: Step, side: Side) -> list[Answer]:
    """The heaviest carriers of that drive, beside its bystanders, each slot alone.

    Raises:
        Unmeasurable: one of them failed.
    """
    found = []
    for slot in step.drive.heaviest:
        dice = _dice(step)
        planned = traffic.carriers(step.drive, [slot], side.texts, dice)
        answers = traffic.run(side.wake(), step.drive.streams, planned, None, dice, lambda _answer: None)
        found += [answer for answer in answers if not traffic.is_bystander(answer)]
    if failed := next((answer for answer in found if not answer.ok), None):
        raise Unmeasurable(f"The largest carrier failed on {step.side}: {failed.error}")
    return found


def _measure(plan: Plan, sides: Mapping[str, Side], found: Answers, journal: Journal, console: Console) -> None:
    """What has not been found is added to it. How far it has come is shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    left = [step for step in steps(plan, list(sides)) if step not in found]
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=sum(step.drive.seconds(sides[step.side].encoded) for step in left))
        passed = 0.0
        for step in left:
            progress.update(task, description=step.name)
            side = sides[step.side]

            def tell(answer: Answer, passed: float = passed) -> None:
                progress.update(task, completed=passed + answer.ended_s)

            _keep(found, step, _measured(step, side, tell), journal)
            passed += step.drive.seconds(side.encoded)
            progress.update(task, completed=passed)


def _measured(step: Step, side: Side, tell: Callable[[Answer], None]) -> list[Answer]:
    """Raises Unmeasurable where nothing was answered: what serves there has gone, and will not come back by waiting."""
    drive, dice = step.drive, _dice(step)
    slots = drive.slots_for(side.encoded, step.block)
    planned = traffic.carriers(drive, slots, side.texts, dice)
    end_s = LEAD_IN_S + drive.slot_s * len(slots)
    answers = traffic.run(side.wake(), drive.streams, planned, end_s, dice, tell)
    if not any(answer.ok for answer in answers):
        raise Unmeasurable(f"{step.side} answers nothing ({step.name}). The first error: {answers[0].error}")
    return answers


def _dice(step: Step) -> random.Random:
    """What texts and pictures show decides nothing, and must be new: the endpoint may remember an earlier run."""
    return random.Random(f"{SEED} {step.name} {secrets.token_hex()}")
