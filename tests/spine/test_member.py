"""What is said of a worker while it starts and serves, whatever Ray says of it."""

from dataclasses import asdict
from typing import Any

import pytest
import ray

import chiasm.member
from chiasm.member import NO_ANSWER, RESTARTED, Member, MemberProgress
from chiasm.supervisor import Progress


def lines(reports: list[MemberProgress]) -> list[tuple[str, str]]:
    return [(report.name, report.stage) for report in reports]


def test_each_engine_of_a_worker_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(said: Any) -> Any:
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(ray, "get", answer)
    made: list[str] = []
    member = Member("encoder-0", lambda: made.append("again"))
    waiting = "waiting for a place in the Ray cluster"
    assert lines(member.progress(None)) == [("encoder-0", waiting)]
    engines = {
        "encoder-0": Progress("ready", 9.0, ready=True, restarts=0, error=None),
        "encoder-0-text": Progress("loading weights", 8.0, ready=False, restarts=0, error=None),
    }
    said = {name: asdict(progress) for name, progress in engines.items()}
    assert lines(member.progress(said)) == [("encoder-0", "ready"), ("encoder-0-text", "loading weights")]
    assert lines(member.progress(None)) == [("encoder-0", NO_ANSWER), ("encoder-0-text", NO_ANSWER)]
    [encode, text] = member.progress(ray.exceptions.RayActorError())
    assert (encode.stage, text.stage, text.ready) == ("being restarted by Ray", "being restarted by Ray", False)
    assert made == ["again"]


@pytest.mark.parametrize(
    "failure",
    [
        ray.exceptions.ActorDiedError(),
        ray.exceptions.RuntimeEnvSetupError("a traceback\nOSError: No space left on device"),
        ray.exceptions.ActorUnschedulableError("its node is gone"),
        ray.exceptions.OutOfMemoryError("too much"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_worker_that_ray_gives_up_is_made_again(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def answer(_said: Any) -> Any:
        raise failure

    handles = iter(("first", "second", ValueError("Ray has one of that name"), "third"))
    killed: list[str] = []

    def make() -> Any:
        if isinstance(handle := next(handles), Exception):
            raise handle
        return handle

    monkeypatch.setattr(ray, "get", answer)
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(chiasm.member, "REMADE_S", 1000.0)
    member = Member("encoder-0", make)
    [told] = member.progress("an answer")
    assert (told.stage, told.restarts, member.handle) == ("could not be made", 0, "first")  # not as often as one looks
    why = str(failure).splitlines()[-1]
    assert told.error == f"encoder-0 could not be made: {why}"
    monkeypatch.setattr(chiasm.member, "REMADE_S", 0.0)
    seen = []
    for _ in range(3):
        [told] = member.progress("an answer")
        seen.append((member.handle, told.restarts))
    assert seen == [("second", 1), ("second", 1), ("third", 2)]
    assert killed == ["first", "second", "second"]


def test_what_else_ray_says_of_a_worker_is_told_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_said: Any) -> Any:
        raise ray.exceptions.RaySystemError("lost on the way")

    made: list[str] = []
    monkeypatch.setattr(ray, "get", answer)
    monkeypatch.setattr(chiasm.member, "REMADE_S", 0.0)
    member = Member("encoder-0", lambda: made.append("once"))
    [told] = member.progress("an answer")
    assert (told.stage, told.ready) == (RESTARTED, False)
    assert "lost on the way" in str(told.error)
    assert made == ["once"]
