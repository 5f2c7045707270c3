"""Several Ray nodes on one machine, each with labels, resources and cards of its own, which only count."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

SETTLED_S = 180.0


class Raylets:
    """Nodes by name; the first one added is the head."""

    def __init__(self) -> None:
        self._cluster = Cluster()
        self._nodes: dict[str, Any] = {}
        self._names: dict[str, str] = {}  # by Ray's id

    @property
    def address(self) -> str:
        found: str = self._cluster.address
        return found

    def add(self, name: str, env: dict[str, str] | None = None, **given: Any) -> None:
        """Start a node; `given` are those of `ray start`, as `ray.cluster_utils` has them. Returns when it is known."""
        small = {"num_cpus": 2, "object_store_memory": 80 << 20, "include_dashboard": False}
        node = self._cluster.add_node(node_name=name, env_vars=env, **small | given)
        self._nodes[name] = node
        self._names[node.node_id] = name

    def lose(self, name: str) -> None:
        """Kill a node and all that runs on it."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def end(self, name: str) -> None:
        """What `ray start --block` does when it is told to end, with RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=True)

    def whereabouts(self) -> dict[str, str]:
        """The node on which each actor that has a place lives."""
        actors = self._cluster.global_state.actor_table(None).values()
        return {each["Name"]: self._names[each["Address"]["NodeID"]] for each in actors if each["State"] == "ALIVE"}

    def given_up(self, actor: str) -> bool:
        """Whether Ray will not start this actor again."""
        actors = [each for each in self._cluster.global_state.actor_table(None).values() if each["Name"] == actor]
        return all(each["State"] == "DEAD" for each in actors)

    def close(self) -> None:
        self._cluster.shutdown()


@contextmanager
def raylets() -> Iterator[Raylets]:
    """Nodes whose workers find the stand-ins, and leave nothing behind."""
    tests = Path(__file__).parent
    # The checkout too, else a folder here that is called like one of its packages would be taken for it.
    own = os.pathsep.join(filter(None, [str(tests.parent), str(tests), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="chiasm-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", own)
        patch.setenv("TMPDIR", folder)  # where engines keep their sockets, short enough for a socket's name
        found = Raylets()
        try:
            yield found
        finally:
            found.close()


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SETTLED_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.5)
