"""docs/upgrades.md as drills, with engines that only look like one: nodes are replaced and clusters exchanged while
clients ask all the time, and every request ends once, and whole."""

import asyncio
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import in_pod
import pytest
import yaml
from askers import asking, expected
from raylets import Raylets, raylets, until
from serving import Serving, running_command
from standin_workers import BROKEN, OTHER_VERSION

from chiasm.client import post_stream
from chiasm.config import ClusterConfig
from chiasm.kubernetes.ray_cluster import ray_cluster
from chiasm.loop_thread import LoopThread

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

CLIENTS = 6
PATIENCE_S = 120.0
LABEL, RESOURCES = "chiasm-pool", {"chiasm-worker": 1.0}


# -- rolling: the nodes of a pool, one after the other -----------------------------------------------------------------


NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Raylets]:
    with raylets() as nodes:
        nodes.add("head")
        for pool in ("encoder", "decoder", "encoder", "decoder"):
            add(nodes, pool, "old")
        yield nodes


def add(nodes: Raylets, pool: str, image: str) -> str:
    """One more node for a pool; its name."""
    name = f"{pool}-node-{next(NUMBERS)}"
    nodes.add(name, env={"IMAGE": image}, num_gpus=1, labels={LABEL: pool}, resources=RESOURCES)
    return name


def places(nodes: Raylets, pool: str) -> list[tuple[str, str]]:
    """The workers of a pool, and the node that each is on."""
    return [(actor, node) for actor, node in nodes.whereabouts().items() if node.startswith(pool)]


@contextmanager
def served(nodes: Raylets, path: Path, pools: dict[str, Any]) -> Iterator[Serving]:
    """`chiasm serve` on the head, with these pools. Answers under way may go on for longer than any takes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        scheduler = {"port": free.getsockname()[1], "prefill_chunk": 0}
    path.write_text(yaml.safe_dump({"gateway": {"port": 0, "drain_s": 60}, "scheduler": scheduler, **pools}))
    command = [sys.executable, in_pod.__file__, "head", "serve", "--config", path, "--address", "auto"]
    with running_command(command, RAY_ADDRESS=nodes.address) as serving:
        yield serving


@pytest.fixture(scope="module")
def serving(nodes: Raylets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    pools = {
        f"{pool}s": {"count": 2, "gpus": 1, "labels": {LABEL: pool}, "resources": RESOURCES}
        for pool in ("encoder", "decoder")
    }
    with served(nodes, tmp_path_factory.mktemp("upgrades") / "cluster.yaml", pools) as serving:
        yield serving


def end_of_a_pod(nodes: Raylets, name: str) -> str:
    """What Kubernetes does to a pod that is deleted: first its hook, then SIGTERM. Returns what the hook printed."""
    cluster: Any = ray_cluster(ClusterConfig())
    pool = next(each for each in cluster["spec"]["workerGroupSpecs"] if name.startswith(each["groupName"]))
    [container] = pool["template"]["spec"]["containers"]
    program, *arguments = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "chiasm"
    env = os.environ | {"RAY_ADDRESS": nodes.address}
    hook = [sys.executable, in_pod.__file__, name, *arguments]
    done = subprocess.run(hook, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    nodes.end(name)
    return done.stdout


def known(serving: Serving) -> set[str]:
    return {worker["worker"] for worker in serving.status()["workers"]}


@pytest.mark.parametrize("pool", ["encoder", "decoder"])
def test_the_nodes_of_a_pool_are_replaced_and_no_request_is_lost(nodes: Raylets, serving: Serving, pool: str) -> None:
    with asking(serving.url, CLIENTS) as askers:
        for worker, old in places(nodes, pool):
            until(lambda: askers.ends["answered"] > 20)
            said = end_of_a_pod(nodes, old)
            assert f"{worker} takes no more requests" in said
            assert f"{worker} has nothing left to do" in said
            assert worker not in known(serving)
            new = add(nodes, pool, "new")
            until(lambda worker=worker: worker in known(serving))
            assert nodes.whereabouts()[worker] == new
        ended = sum(askers.ends.values())
        until(lambda: sum(askers.ends.values()) > ended + 20)
    assert askers.ends.keys() == {"answered"}
    if pool == "decoder":
        assert "new" in askers.images


def test_a_node_that_is_lost_costs_its_streams_and_each_is_told(nodes: Raylets, serving: Serving) -> None:
    """What leaving spares: here nobody is asked to leave."""
    worker, node = places(nodes, "decoder")[0]
    with asking(serving.url, CLIENTS) as askers:
        until(lambda: askers.ends["answered"] > 20)
        nodes.lose(node)
        until(lambda: worker not in known(serving))
        answered = askers.ends["answered"]
        until(lambda: askers.ends["answered"] > answered + 20)
        add(nodes, "decoder", "new")
        until(lambda: worker in known(serving))
    assert askers.ends.keys() <= {"answered", "decode_failed"}
    assert askers.ends["decode_failed"] <= CLIENTS


def test_an_image_that_does_not_do_is_told_and_another_mends_it(nodes: Raylets, serving: Serving) -> None:
    worker, node = places(nodes, "encoder")[0]
    with asking(serving.url, CLIENTS) as askers:
        until(lambda: askers.ends["answered"] > 20)
        end_of_a_pod(nodes, node)
        other = add(nodes, "encoder", OTHER_VERSION)
        until(lambda: "Chiasm 9.9.9 is installed here, and the cluster is one of Chiasm" in progress(serving))
        nodes.end(other)
        broken = add(nodes, "encoder", BROKEN)
        until(lambda: nodes.given_up(worker))
        nodes.end(broken)
        add(nodes, "encoder", "new")
        until(lambda: worker in known(serving))
    assert askers.ends.keys() == {"answered"}


def progress(serving: Serving) -> str:
    """What it has said so far, as one line."""
    return " ".join("".join(serving.lines).split())


# -- blue/green: one cluster for another -------------------------------------------------------------------------------


class Switch:
    """Connects whoever comes with the address of the moment, as a Service does; what is connected stays so."""

    def __init__(self, to: str) -> None:
        self.to = to
        self.url = ""
        self._listening = asyncio.Event()

    async def run(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._listening.set()
        async with server:
            await asyncio.Event().wait()

    async def listens(self) -> None:
        await self._listening.wait()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.to.removeprefix("http://").partition(":")
        inside, outside = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_carry(reader, outside), _carry(inside, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@contextmanager
def switching(to: str) -> Iterator[Switch]:
    switch = Switch(to)
    thread = LoopThread("switch", switch.run)
    try:
        thread.call(switch.listens, PATIENCE_S)
        yield switch
    finally:
        thread.stop(PATIENCE_S)


@contextmanager
def cluster(folder: Path, image: str) -> Iterator[Serving]:
    """One cluster, on a Ray cluster of its own."""
    with raylets() as nodes:
        nodes.add("head", env={"IMAGE": image})
        with served(nodes, folder / f"{image}.yaml", {}) as serving:
            yield serving


def test_one_cluster_takes_over_from_another_and_no_request_is_lost(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread, cluster(tmp_path, "blue") as blue, cluster(tmp_path, "green") as green:
        with switching(blue.url) as switch, asking(switch.url, CLIENTS) as askers:
            until(lambda: askers.images["blue"] > 20)
            assert set(askers.images) == {"blue"}
            begun = threading.Event()
            long = thread.submit(stream, switch.url, 300, begun)
            assert begun.wait(PATIENCE_S)
            switch.to = green.url
            blue.process.send_signal(signal.SIGTERM)
            until(lambda: blue.process.poll() is not None)
            assert long.result(PATIENCE_S) == expected(300)
            blues = askers.images["blue"]
            until(lambda: askers.images["green"] > 40)
            assert askers.images["blue"] == blues
        assert askers.ends.keys() == {"answered"}
        assert askers.again  # whose connections led to the old one


def stream(url: str, tokens: int, begun: threading.Event) -> str:
    """A long answer, from when it has begun on."""
    body = {"model": "m", "messages": [{"role": "user", "content": "at length"}], "max_tokens": tokens, "stream": True}
    said = ""
    with post_stream(url, "/v1/chat/completions", body) as (events, _):
        for event in events:
            said += event["choices"][0]["delta"]["content"]
            begun.set()
    return said
