"""`chiasm drain`: whom it tells to leave, and how long it waits, with a Ray of a few actors that only look it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from click.testing import CliRunner, Result

import chiasm.cluster
import chiasm.drain_command
from chiasm.drain_command import drain

GONE = ray.exceptions.ActorDiedError()
UNANSWERED = (
    ray.exceptions.GetTimeoutError(),
    ray.exceptions.ActorUnavailableError("it cannot be reached", None),
    ray.exceptions.RaySystemError("it failed at it"),
)


@dataclass
class Actor:
    """`rests` is what it says when asked, one after the other; then it is gone. References to answers are calls."""

    node: str
    rests: list[bool | Exception] = field(default_factory=list)
    seconds: float = 1000.0
    deaf: list[Exception] = field(default_factory=list)  # what becomes of it, before it hears that it is to leave
    asked: int = 0

    def _leave(self, node: str | None) -> Callable[[], Any]:
        return lambda: _say([*self.deaf[:1], self.seconds if node in (None, self.node) else None], self.deaf)

    def _at_rest(self) -> Callable[[], Any]:
        self.asked += 1
        return lambda: _say([*self.rests[:1], GONE], self.rests)

    @property
    def leave(self) -> Any:
        return SimpleNamespace(remote=self._leave)

    @property
    def at_rest(self) -> Any:
        return SimpleNamespace(remote=self._at_rest)


def _say(answers: list[Any], used: list[Any]) -> Any:
    """The first of these, which is used up."""
    del used[:1]
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Actor]:
    found: dict[str, Actor] = {}

    def get_actor(name: str) -> Actor:
        if name not in found:
            raise ValueError(name)
        return found[name]

    monkeypatch.setattr(chiasm.cluster, "ray_session", lambda address, verbose: nullcontext())
    monkeypatch.setattr(chiasm.drain_command, "POLL_S", 0.0)
    monkeypatch.setattr(ray.util, "list_named_actors", lambda: [*found, "died-just-now", "gateway", "scheduler"])
    monkeypatch.setattr(ray, "get_actor", get_actor)
    monkeypatch.setattr(ray, "wait", lambda *_, **__: None)
    monkeypatch.setattr(ray, "get", lambda reference, timeout: reference())
    context = SimpleNamespace(get_node_id=lambda: "here")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    return found


def run(*arguments: str) -> Result:
    return CliRunner().invoke(drain, arguments)


def test_the_workers_of_this_node_leave_and_no_other(actors: dict[str, Actor]) -> None:
    actors |= {"decoder-0": Actor("there"), "decoder-1": Actor("here", [False, True, True])}
    result = run()
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "decoder-1 takes no more requests; what it has may go on for 1000 s",
        "decoder-1 has nothing left to do, after 0 s",
    ]
    assert (actors["decoder-0"].asked, actors["decoder-1"].asked) == (0, 3)


def test_one_rest_is_not_enough(actors: dict[str, Actor]) -> None:
    """A request that was handed out just before may reach the engine just after."""
    actors["decoder-0"] = Actor("here", [True, False, True, True])
    assert "has nothing left to do" in run().output
    assert actors["decoder-0"].asked == 4


def test_a_worker_that_is_named_leaves_wherever_it_is(actors: dict[str, Actor]) -> None:
    actors |= {"decoder-0": Actor("there", [True, True]), "decoder-1": Actor("here")}
    assert "decoder-0 has nothing left to do" in run("decoder-0").output
    assert actors["decoder-1"].asked == 0


def test_what_takes_too_long_is_waited_for_no_longer(actors: dict[str, Actor]) -> None:
    actors["encoder-0"] = Actor("here", [False], seconds=0.0)
    assert "encoder-0 may have requests after 0 s; gateway.drain_s is over" in run().output


def test_a_worker_that_is_gone_meanwhile_keeps_nobody(actors: dict[str, Actor]) -> None:
    actors["encoder-0"] = Actor("here", [False])
    assert "encoder-0 is gone" in run().output


def test_a_worker_that_does_not_answer_is_not_taken_to_be_gone(actors: dict[str, Actor]) -> None:
    actors["encoder-0"] = Actor("here", [*UNANSWERED, True, True])
    assert "encoder-0 has nothing left to do" in run().output
    assert actors["encoder-0"].asked == 5


def test_a_worker_is_told_until_it_has_heard(actors: dict[str, Actor]) -> None:
    actors |= {
        "encoder-0": Actor("here", [True, True], deaf=[*UNANSWERED]),
        "encoder-1": Actor("there", deaf=[*UNANSWERED]),
    }
    result = run()
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "encoder-0 takes no more requests; what it has may go on for 1000 s",
        "encoder-0 has nothing left to do, after 0 s",
    ]


WHYS = ("no answer", "cannot be reached", "failed")


@pytest.mark.parametrize(("failure", "why"), [*zip(UNANSWERED, WHYS, strict=True)])
def test_a_worker_that_has_not_heard_is_an_error_and_the_others_are_waited_for(
    actors: dict[str, Actor], monkeypatch: pytest.MonkeyPatch, failure: Exception, why: str
) -> None:
    monkeypatch.setattr(chiasm.drain_command, "HEARD_S", -1.0)  # told once
    actors |= {"decoder-0": Actor("here", deaf=[failure]), "decoder-1": Actor("here", [True, True])}
    result = run()
    assert result.exit_code == 1
    assert "decoder-1 has nothing left to do" in result.output
    assert "decoder-0 has not said that it has heard: " in result.output
    assert why in result.output
    assert actors["decoder-0"].asked == 0


def test_a_worker_that_ray_has_given_up_has_nothing_to_hear(actors: dict[str, Actor]) -> None:
    actors["decoder-0"] = Actor("here", deaf=[GONE])
    result = run()
    assert (result.exit_code, result.output) == (0, "no worker is on this node\n")
    actors["decoder-0"] = Actor("here", deaf=[GONE])
    result = run("decoder-0")
    assert (result.exit_code, result.output) == (0, "gone already\n")


@pytest.mark.parametrize("name", ["decoder-7", "died-just-now", "gateway"])
def test_a_worker_that_is_not_there_is_an_error(actors: dict[str, Actor], name: str) -> None:
    actors |= {"encoder-0": Actor("here"), "decoder-0": Actor("here")}
    result = run(name)
    assert result.exit_code == 1
    assert f"there is no worker {name}. There are: decoder-0, encoder-0." in str(result.output)


def test_a_node_without_workers_has_nothing_to_drain(actors: dict[str, Actor]) -> None:
    result = run()
    assert (result.exit_code, result.output) == (0, "no worker is on this node\n")
