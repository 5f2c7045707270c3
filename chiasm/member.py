"""One worker as `chiasm serve` watches it: what it says of its engines, and what Ray says of it where it does not."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

NO_ANSWER = "too busy to answer"
RESTARTED = "being restarted by Ray"
REMADE_S = 10.0

GIVEN_UP = (
    ray.exceptions.ActorDiedError,
    ray.exceptions.RuntimeEnvSetupError,
    ray.exceptions.ActorUnschedulableError,
    ray.exceptions.OutOfMemoryError,
)
"""What Ray answers for an actor that it will not start again, by why it does not."""


@dataclass(frozen=True)
class MemberProgress:
    """How far one engine has come; or its worker, as long as that has not said which engines it has."""

    name: str
    stage: str
    seconds: float
    ready: bool
    restarts: int
    error: str | None
    fallback: str = ""  # see `Landing`


@dataclass
class Member:
    """One placed worker."""

    name: str
    make: Callable[[], Any]  # has Ray place it; returns a handle
    engines: tuple[str, ...] = ()  # names; empty until it answers for the first time: then Ray has found its place
    remade: int = 0

    def __post_init__(self) -> None:
        self.handle = self.make()
        self._made_at = time.monotonic()

    def progress(self, answer: Any) -> list[MemberProgress]:
        """What its answer (a reference of Ray's) says of its engines; None is no answer so far."""
        if answer is None:
            stage, error = NO_ANSWER if self.engines else "waiting for a place in the Ray cluster", None
        else:
            try:
                said = ray.get(answer)
            except GIVEN_UP as failure:
                why = str(failure).strip().rpartition("\n")[2]  # the last line of a traceback
                stage, error = "could not be made", f"{self.name} could not be made: {why}"
                self._make_again()
            except ray.exceptions.RayError as failure:  # whatever is the matter with one worker, the others serve on
                stage, error = RESTARTED, str(failure)
            else:
                self.engines = tuple(said)
                return [MemberProgress(name, **progress) for name, progress in said.items()]
        return [MemberProgress(name, stage, 0.0, False, self.remade, error) for name in self.engines or (self.name,)]

    def _make_again(self) -> None:
        """An actor whose making fails, as in an image that lacks something, Ray gives up for ever: its next node may do
        better."""
        if time.monotonic() - self._made_at < REMADE_S:
            return
        self._made_at = time.monotonic()
        ray.kill(self.handle)  # else it keeps its name, dead as it is
        with contextlib.suppress(ValueError):  # the name is not free yet
            self.handle = self.make()
            self.remade += 1
