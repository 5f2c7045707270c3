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


class Gone(ray.exceptions.RayError):
    """Its process has ended."""


@dataclass
class Actor:
    """`rests` is what it says when asked, one after the other; then it is gone. References to answers are calls."""

    node: str
    rests: list[bool] = field(default_factory=list)
    seconds: float = 1000.0
    asked: int = 0

    def _leave(self, node: str | None) -> Callable[[], Any]:
        return lambda: self.seconds if node in (None, self.node) else None

    def _at_rest(self) -> Callable[[], Any]:
        self.asked += 1
        return self._say

    def _say(self) -> bool:
        if not self.rests:
            raise Gone
        return self.rests.pop(0)

    @property
    def leave(self) -> Any:
        return SimpleNamespace(remote=self._leave)

    @property
    def at_rest(self) -> Any:
        return SimpleNamespace(remote=self._at_rest)


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Actor]:
    found: dict[str, Actor] = {}

    monkeypatch.setattr(chiasm.cluster, "ray_session", lambda address, verbose: nullcontext())
    monkeypatch.setattr(chiasm.drain_command, "POLL_S", 0.0)
    monkeypatch.setattr(ray.util, "list_named_actors", lambda: [*found, "gateway", "scheduler"])
    monkeypatch.setattr(ray, "get_actor", found.__getitem__)
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
    assert "encoder-0 has requests after 0 s; gateway.drain_s is over" in run().output


def test_a_worker_that_is_gone_meanwhile_keeps_nobody(actors: dict[str, Actor]) -> None:
    actors["encoder-0"] = Actor("here", [False])
    assert "encoder-0 is gone" in run().output


def test_a_worker_that_is_not_there_is_an_error(actors: dict[str, Actor]) -> None:
    actors |= {"encoder-0": Actor("here"), "decoder-0": Actor("here")}
    result = run("decoder-7")
    assert result.exit_code == 1
    assert "there is no worker decoder-7. There are: decoder-0, encoder-0." in str(result.output)


def test_a_node_without_workers_has_nothing_to_drain(actors: dict[str, Actor]) -> None:
    result = run()
    assert (result.exit_code, result.output) == (0, "no worker is on this node\n")
