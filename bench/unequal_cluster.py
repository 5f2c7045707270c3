"""A cluster of two encoders that are not equally fast and one decoder, whose scheduler is exchanged while engines live.

Its parts are those that `chiasm serve` has Ray place; here they are threads of one process. Two cores are used: one is
the first encoder's alone, and the second encoder shares the other with the decoder, the gateway, the scheduler, and
whoever sends requests from this process.
"""

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout

from rich.console import Console

from chiasm.client import EndpointError, get_json
from chiasm.config import ClusterConfig
from chiasm.display import StartDisplay
from chiasm.engine import EngineFailed
from chiasm.gateway.actor import Gateway
from chiasm.membership import Membership
from chiasm.wire.keys import ClusterKeys
from chiasm.worker import Worker
from decoder.worker import DecoderWorker
from encoder.worker import EncoderWorker
from scheduler.actor import Scheduler
from scheduler.placement import Placement
from scheduler.workers import EncodeWorker

FAST, SLOW = "encoder-0", "encoder-1"
START_ATTEMPTS = 2  # an engine may lose its port to somebody else once
POLL_S = 0.1
MEETING_TIMEOUT_S = 60.0


class UnequalCluster:
    """Its engines start when it is made, and each registers with whatever scheduler there is."""

    def __init__(self, membership: Membership, cores: tuple[int, int]) -> None:
        self._membership = membership
        self._scheduler = Scheduler(membership.scheduler, membership.config, membership.keys)
        self._scheduler.endpoint()
        self._gateway = Gateway(membership)
        self.url = self._gateway.url()
        first, second = map(str, cores)
        self._workers: list[Worker] = [
            EncoderWorker(FAST, membership, _address, first),
            EncoderWorker(SLOW, membership, _address, second),
            DecoderWorker("decoder-0", membership, _address, second),
        ]

    def wait_ready(self, display: StartDisplay) -> None:
        """Return when every engine answers.

        Raises:
            EngineFailed: one could not be started, or they took too long.
        """
        from chiasm.cluster import MemberProgress  # Ray comes with it, which other benchmarks need not wait for

        timeout_s = self._membership.config.engine_start_timeout_s
        deadline = time.monotonic() + timeout_s
        while True:
            said = {name: one for worker in self._workers for name, one in worker.progress().items()}
            members = [MemberProgress(name, **one) for name, one in said.items()]
            display.show(members)
            if all(member.ready for member in members):
                return
            for member in members:
                if member.error is not None and member.restarts >= START_ATTEMPTS:
                    raise EngineFailed(member.error)
            if time.monotonic() > deadline:
                raise EngineFailed(f"the engines were not ready after {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def schedule_by(self, encoders: Placement[EncodeWorker]) -> None:
        """Go on with a new scheduler that places encodes so, and has measured nothing yet. Nothing may be under way.

        Raises:
            EngineFailed: an engine did not register again.
        """
        membership = self._membership
        self._scheduler.stop()
        self._scheduler = Scheduler(membership.scheduler, membership.config, membership.keys, encoders)
        self._scheduler.endpoint()
        deadline = time.monotonic() + MEETING_TIMEOUT_S
        while self._registered() < len(self._workers):
            if time.monotonic() > deadline:
                raise EngineFailed(f"not all engines have registered with a new scheduler in {MEETING_TIMEOUT_S:.0f} s")
            time.sleep(POLL_S)

    def _registered(self) -> int:
        try:
            return len(get_json(self.url, "/v1/chiasm/status")["workers"])
        except EndpointError:  # the question may be lost with the old scheduler
            return 0

    def stop(self) -> None:
        """End everything; returns when the engines are gone."""
        with ThreadPoolExecutor(len(self._workers)) as pool:
            list(pool.map(Worker.stop, self._workers))
        self._gateway.stop()
        self._scheduler.stop()


@contextmanager
def unequal_cluster(config: ClusterConfig, console: Console) -> Iterator[UnequalCluster]:
    """A cluster that is ready, for as long as the context lasts; what its engines say on stdout is dropped.

    The program ends if the model cannot be split, or there is only one core.

    Raises:
        EngineFailed: an engine could not be started.
    """
    from chiasm.cli import prepare  # the command line in its turn imports the benchmarks

    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        sys.exit("Two encoders that are not equally fast need two cores, and this process may use one.")
    first, second = sorted(allowed)[:2]
    config, facts = prepare(config)
    with tempfile.TemporaryDirectory(prefix="chiasm-") as meeting, open(os.devnull, "w") as nowhere:
        membership = Membership(
            config=config,
            facts=facts,
            token=secrets.token_urlsafe(32),
            keys=ClusterKeys.generate(),
            scheduler=f"ipc://{meeting}/scheduler",
            one_machine=True,
        )
        os.sched_setaffinity(0, {second})  # of this thread and those that it starts, not of engines
        try:
            with redirect_stdout(nowhere):
                cluster = UnequalCluster(membership, (first, second))
                try:
                    with StartDisplay(console) as display:
                        cluster.wait_ready(display)
                    yield cluster
                finally:
                    cluster.stop()
        finally:
            os.sched_setaffinity(0, allowed)


def _address() -> str:
    return "127.0.0.1"
