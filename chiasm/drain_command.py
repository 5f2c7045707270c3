"""`chiasm drain`: have workers take no more requests before their node goes. A pod runs it before it ends."""

import contextlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

POLL_S = 1.0
RESTS = 2
"""How often in a row an engine has to have nothing to do: what was handed to it last may still be on its way."""

ANSWER_TIMEOUT_S = 10.0
HEARD_S = 20.0
"""For how long a worker is told to leave, again and again, that does not say whether it has heard."""

NO_POOLS = {"gateway", "scheduler"}


class NoSuchWorker(ValueError):
    """A worker was named that is not there; the message says which are."""


class Unanswered(Exception):
    """A worker has not said what it was asked; the message says why."""


class Gone(Exception):
    """A worker is no more."""


@dataclass
class Leaver:
    """A worker that takes no more requests, and what is known of those that it has."""

    name: str
    handle: Any
    seconds: float  # for which they may go on
    began: float
    rests: int = 0
    verdict: str = ""  # how it came out

    def look(self, at_rest: bool | None) -> None:
        """Take in what it says of itself; None is no worker any more."""
        waited = time.monotonic() - self.began
        self.rests = self.rests + 1 if at_rest else 0
        if at_rest is None:
            self.verdict = "is gone"
        elif self.rests >= RESTS:
            self.verdict = f"has nothing left to do, after {waited:.0f} s"
        elif waited >= self.seconds:
            self.verdict = f"may have requests after {waited:.0f} s; gateway.drain_s is over, and they end with it"


@click.command()
@click.argument("workers", nargs=-1, metavar="[WORKER]...")
@click.option("--address", default="auto", show_default=True, help="Ray cluster that the workers are in.")
def drain(workers: tuple[str, ...], address: str) -> None:
    """Have each WORKER take no more requests, and wait for those that it has, for up to gateway.drain_s seconds.

    Without a name these are the workers on this node of Ray. To be run before a node goes; pods of `chiasm render` run
    it by themselves. New requests go to other workers. The exit code is 1 if a worker has not said that it has heard.

    A worker comes back when Ray starts it again, on this node or on another: so its node, or its process, has to end
    first. Where the node stays, kill -9 the process that is called ray::EncoderWorker, ray::DecoderWorker or
    ray::WholeWorker.

    \b
      chiasm drain && ray stop
      chiasm drain decoder-1
    """
    from chiasm.cluster import ClusterFailed, ray_session

    try:
        with ray_session(address, verbose=False):
            unheard = _drain(workers)
    except (ClusterFailed, NoSuchWorker) as error:
        sys.exit(str(error))
    if unheard:
        told = [f"{name} has not said that it has heard: {why}" for name, why in unheard.items()]
        sys.exit("\n".join([*told, "Run this again, unless they are elsewhere, or have no place yet."]))


def _drain(names: Sequence[str]) -> dict[str, str]:
    """Returns once all that have heard of it are done; those that have not heard, and why."""
    leaving, unheard = _told_to_leave(names)
    if not leaving and not unheard:
        click.echo("gone already" if names else "no worker is on this node")
    for each in leaving:
        click.echo(f"{each.name} takes no more requests; what it has may go on for {each.seconds:g} s")
    while leaving:
        time.sleep(POLL_S)
        for each in leaving:
            each.look(_rests(each.handle))
            if each.verdict:
                click.echo(f"{each.name} {each.verdict}")
        leaving = [each for each in leaving if not each.verdict]
    return unheard


def _told_to_leave(names: Sequence[str]) -> tuple[list[Leaver], dict[str, str]]:
    """The workers of these names, or those on this node, which have heard it; and why the others have not.

    Raises:
        NoSuchWorker: one is not there.
    """
    import ray

    handles = _workers(names)
    node = None if names else ray.get_runtime_context().get_node_id()
    leaving: list[Leaver] = []
    unheard: dict[str, str] = {}
    deadline = time.monotonic() + HEARD_S
    while handles:
        asked = {name: handle.leave.remote(node) for name, handle in handles.items()}
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_TIMEOUT_S)
        began = time.monotonic()
        unheard = {}
        for name, reference in asked.items():
            try:
                seconds = _answer(reference, timeout_s=0)
            except Unanswered as why:
                unheard[name] = str(why)
            except Gone:
                pass
            else:
                if seconds is not None:  # else it is on another node
                    leaving.append(Leaver(name, handles[name], seconds, began))
        if not unheard or began > deadline:
            break
        handles = {name: handles[name] for name in unheard}
        time.sleep(POLL_S)
    return leaving, unheard


def _workers(names: Sequence[str]) -> dict[str, Any]:
    """Handles of the workers of these names, or of all.

    Raises:
        NoSuchWorker: one is not there.
    """
    import ray

    there = sorted(set(ray.util.list_named_actors()) - NO_POOLS)
    handles = {}
    for name in there:
        with contextlib.suppress(ValueError):  # it is gone since it was listed
            handles[name] = ray.get_actor(name)
    if missing := [name for name in names if name not in handles]:
        raise NoSuchWorker(f"there is no worker {missing[0]}. There are: {', '.join(handles) or 'none'}.")
    return {name: handles[name] for name in names or handles}


def _rests(handle: Any) -> bool | None:
    """Whether a worker says that it has nothing to do; None if it is no more."""
    try:
        return bool(_answer(handle.at_rest.remote(), ANSWER_TIMEOUT_S))
    except Unanswered:
        return False
    except Gone:
        return None


def _answer(reference: Any, timeout_s: float) -> Any:
    """What an actor answers.

    Raises:
        Unanswered: nothing in time, or it failed at it, or cannot be reached.
        Gone: Ray has given it up.
    """
    import ray

    from chiasm.member import GIVEN_UP

    try:
        return ray.get(reference, timeout=timeout_s)
    except ray.exceptions.GetTimeoutError:
        raise Unanswered("no answer") from None
    except GIVEN_UP as error:
        raise Gone from error
    except ray.exceptions.RayError as error:
        raise Unanswered(str(error).strip().rpartition("\n")[2]) from error
