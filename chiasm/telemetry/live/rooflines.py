"""Rows for the tables and the picture of the signature, of what engines really did. Pure.

A row sums the steps of all engines on machines that are alike, in which the same was done. A step that computes prompts
beside streams is neither a prefill nor a decode: its time cannot be divided between the two, and it reads the weights
once for both. So such steps have rows of their own, named after all that is in them, and the rows of a phase tell of
that phase alone. An engine with streams to answer mostly prefills in such steps.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

from chiasm.nouns import WorkerId
from chiasm.telemetry.live.machine import Machine
from chiasm.telemetry.live.step_times import TimedStep, timed_steps
from chiasm.telemetry.live.step_work import Model, StepWork, with_calls
from chiasm.telemetry.records import EngineRecords, Phase
from chiasm.telemetry.signature.peaks import Conditions, Peaks
from chiasm.telemetry.signature.roofline import RUNNING, Point, row
from chiasm.telemetry.signature.work import NOTHING, Work

Kind = tuple[Conditions, int]
"""Of machines: what their peaks depend on, and how many cards an engine has."""


@dataclass
class _Sum:
    """Of the steps of one kind."""

    peaks: Peaks
    work: Work = NOTHING
    workers: set[WorkerId] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    images: int = 0
    image_tokens: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    streams: int = 0
    known: int = 0
    met: float = 0.0  # by streams' tokens

    def add(self, worker: WorkerId, timed: TimedStep, done: StepWork) -> None:
        step = timed.step
        self.work += done.work
        self.workers.add(worker)
        self.seconds.append(timed.seconds)
        if Phase.ENCODE in done.phases:
            self.images += step.images
            self.image_tokens += step.image_tokens
        if Phase.PREFILL in done.phases:
            self.prompts += step.prompt_requests
            self.prompt_tokens += step.prompt_tokens
        if Phase.DECODE in done.phases:
            self.streams += step.streams
            self.known += done.known
            self.met += step.streams * done.context

    def row(self, phase: str, all_seconds: float) -> dict[str, Any]:
        seconds = sum(self.seconds)
        point = Point(
            phase=phase,
            label=self._label(),
            how=RUNNING,
            units=self.image_tokens + self.prompt_tokens + self.streams,
            work=self.work,
            seconds=seconds,
            spread=(min(self.seconds), max(self.seconds)),
            rounds=len(self.seconds),
        )
        return row(point, self.peaks) | {
            "workers": ", ".join(sorted(self.workers)),
            "share": seconds / all_seconds,
            "known_streams": self.known / self.streams if self.streams else 1.0,
        }

    def _label(self) -> str:
        """What was in a step, on average."""
        steps = len(self.seconds)
        parts = []
        if self.images:
            parts.append(f"{self.images / steps:.3g} x {self.image_tokens / self.images:.0f} image tokens")
        if self.prompts:
            parts.append(f"{self.prompts / steps:.3g} x {self.prompt_tokens / self.prompts:.0f} prompt tokens")
        if self.streams:
            parts.append(f"{self.streams / steps:.3g} streams at {self.met / self.streams:.0f}")
        return ", ".join(parts)


def running_rows(
    records: Mapping[WorkerId, EngineRecords], machines: Mapping[WorkerId, Machine]
) -> list[dict[str, Any]]:
    """A row (`signature.roofline.row`) for each thing that was done on each kind of machine, those of a phase first.

    Both by worker. `seconds` is of all steps, `share` of the time of all rows, `rounds` how many steps there were, and
    `known_streams` the part of the streams whose contexts their calls have told.

    Raises:
        ValueError: see `Model`; or a machine has no peaks.
    """
    peaks = _peaks(machines)
    sums: dict[tuple[tuple[Phase, ...], Kind], _Sum] = {}
    for worker, remembered in records.items():
        machine = machines[worker]
        kind, model = _kind(machine), Model(machine)
        for timed, calls in with_calls(timed_steps(remembered), remembered.calls):
            if timed.seconds > 0 and (done := model.work_of(timed, calls)) is not None:
                sums.setdefault((done.phases, kind), _Sum(peaks[kind])).add(worker, timed, done)
    all_seconds = sum(sum(one.seconds) for one in sums.values())
    order = list(Phase)
    found = sorted(sums, key=lambda key: (len(key[0]), [order.index(phase) for phase in key[0]]))
    return [sums[key].row(" + ".join(key[0]), all_seconds) for key in found]


def roofs(machines: Mapping[WorkerId, Machine]) -> dict[str, Peaks]:
    """The peaks of each kind of machine, by its name.

    Raises:
        ValueError: a machine has no peaks.
    """
    return {_name(*kind): peaks for kind, peaks in _peaks(machines).items()}


def _kind(machine: Machine) -> Kind:
    return machine.conditions, machine.cards


def _peaks(machines: Mapping[WorkerId, Machine]) -> dict[Kind, Peaks]:
    """The greatest that was measured on any machine of a kind."""
    found: dict[Kind, Peaks] = {}
    for worker, machine in machines.items():
        if machine.best is None:
            raise ValueError(f"nobody has measured the peaks of {worker}'s machine")
        peaks, kind = machine.best.peaks.of(machine.cards), _kind(machine)
        found[kind] = Peaks(*map(max, astuple(peaks), astuple(found.get(kind, peaks))))
    return found


def _name(conditions: Conditions, cards: int) -> str:
    many = f"{cards} x " if cards > 1 else ""
    threads = f", {conditions.threads} threads" if conditions.device == "cpu" else ""
    return f"{many}{conditions.processor}{threads}, {conditions.dtype}"
