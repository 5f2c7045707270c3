"""`chiasm drain`: have workers take no more requests before their node goes. A pod runs it before it ends."""

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
NO_POOLS = {"gateway", "scheduler"}


class NoSuchWorker(ValueError):
    """A worker was named that is not there; the message says which are."""


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
            self.verdict = f"has requests after {waited:.0f} s; gateway.drain_s is over, and they end with it"


@click.command()
@click.argument("workers", nargs=-1, metavar="[WORKER]...")
@click.option("--address", default="auto", show_default=True, help="Ray cluster that the workers are in.")
def drain(workers: tuple[str, ...], address: str) -> None:
    """Have each WORKER take no more requests, and wait for those that it has, for up to gateway.drain_s seconds.

    Without a name these are the workers on this node of Ray. To be run before a node goes; pods of `chiasm render` run
    it by themselves. New requests go to other workers. A worker comes back when Ray starts it again, on this node or on
    another.

    \b
      chiasm drain && ray stop
      chiasm drain decoder-1
    """
    from chiasm.cluster import ClusterFailed, ray_session

    try:
        with ray_session(address, verbose=False):
            _drain(workers)
    except (ClusterFailed, NoSuchWorker) as error:
        sys.exit(str(error))


def _drain(names: Sequence[str]) -> None:
    leaving = _told_to_leave(names)
    if not leaving:
        click.echo("no worker is on this node")
    for each in leaving:
        click.echo(f"{each.name} takes no more requests; what it has may go on for {each.seconds:g} s")
    while leaving:
        time.sleep(POLL_S)
        for each in leaving:
            each.look(_ask(each.handle.at_rest.remote(), otherwise=False))
            if each.verdict:
                click.echo(f"{each.name} {each.verdict}")
        leaving = [each for each in leaving if not each.verdict]


def _told_to_leave(names: Sequence[str]) -> list[Leaver]:
    """The workers of these names, or those on this node, which have heard it.

    Raises:
        NoSuchWorker: one is not there.
    """
    import ray

    there = sorted(set(ray.util.list_named_actors()) - NO_POOLS)
    if missing := [name for name in names if name not in there]:
        raise NoSuchWorker(f"there is no worker {missing[0]}. There are: {', '.join(there) or 'none'}.")
    handles = {name: ray.get_actor(name) for name in names or there}
    if not handles:
        return []
    node = None if names else ray.get_runtime_context().get_node_id()
    asked = {name: handle.leave.remote(node) for name, handle in handles.items()}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_TIMEOUT_S)
    began = time.monotonic()
    heard = {name: _ask(reference, otherwise=None, timeout_s=0) for name, reference in asked.items()}
    return [Leaver(name, handles[name], seconds, began) for name, seconds in heard.items() if seconds is not None]


def _ask(reference: Any, otherwise: Any, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
    """The answer to a question; `otherwise` where there is none in time, and None from an actor that is gone."""
    import ray

    try:
        return ray.get(reference, timeout=timeout_s)
    except ray.exceptions.GetTimeoutError:
        return otherwise
    except ray.exceptions.RayError:
        return None
