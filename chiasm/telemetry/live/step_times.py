"""How long each step of an engine took. Pure.

`Step.seconds` does not tell: vLLM times how long its core waits for a step's result (`capture_iteration_details` in
0.32's `v1/engine/core.py`). That leaves out scheduling, and what becomes of the result. With an executor in the core's
own process, which is what an engine on one GPU has, it even leaves out the step: the model is run, or its kernels
launched, before the waiting begins. And with asynchronous scheduling the wait begins after the next step was scheduled.

So a step is taken to last from the end of the one before, where that left requests running: then the engine goes on
without a pause. Else it began when a request was first scheduled. Where neither is known, the step is left out.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from chiasm.telemetry.records import EngineCall, EngineRecords, Step


@dataclass(frozen=True)
class TimedStep:
    """A step, and when it began, in unix seconds of its engine's clock."""

    step: Step
    began: float

    @property
    def seconds(self) -> float:
        """How long it took, with all that the engine does between two steps."""
        return self.step.ended - self.began

    @property
    def middle(self) -> float:
        """A moment in it: ends of calls and of steps that fall together are stamped one shortly after the other."""
        return (self.began + self.step.ended) / 2


def timed_steps(records: EngineRecords) -> list[TimedStep]:
    """Those steps whose beginning is known, in their order. Of the first, only a call can tell."""
    steps = sorted(records.steps, key=lambda step: step.ended)
    calls = [call for call in records.calls if call.scheduled < call.first_token]  # others were never in a step
    scheduled = sorted(call.scheduled for call in calls)
    resumed = sorted(pause.ended for pause in records.pauses)
    began = [
        *(_first_began(step, calls) for step in steps[:1]),
        *(_began(step, before, scheduled, resumed) for before, step in pairwise(steps)),
    ]
    return [TimedStep(step, at) for step, at in zip(steps, began, strict=True) if at is not None]


def _began(step: Step, before: Step, scheduled: Sequence[float], resumed: Sequence[float]) -> float | None:
    """`scheduled` and `resumed`, when calls first were in a step and when the engine was told to go on, are sorted."""
    if before.running:
        until = bisect_right(resumed, step.ended)
        return max([before.ended, *resumed[until - 1 : until]])
    following = bisect_left(scheduled, before.ended)
    return next((at for at in scheduled[following : following + 1] if at < step.ended), None)


def _first_began(step: Step, calls: Sequence[EngineCall]) -> float | None:
    """With one of the calls whose whole prompt was computed in it, as far as times and tokens can tell."""
    return min(
        (
            call.scheduled
            for call in calls
            if call.scheduled < (call.scheduled + step.ended) / 2 < call.first_token
            and step.streams == 0
            and call.prompt_tokens - call.cached_tokens <= step.prompt_tokens
        ),
        default=None,
    )
