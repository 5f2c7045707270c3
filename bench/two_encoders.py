"""A cluster of two encoders and one decoder, whose scheduler is exchanged while engines live.

Its parts are those that `chiasm serve` has Ray place; here they are threads of one process.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout

import psutil
from rich.console import Console

from bench.handicap import held_to, taking_turns
from chiasm.client import EndpointError, get_json
from chiasm.config import ClusterConfig
from chiasm.display import StartDisplay
from chiasm.engine import EngineFailed
from chiasm.gateway.actor import Gateway
from chiasm.landing import Landing
from chiasm.membership import Membership
from chiasm.wire.keys import ClusterKeys
from chiasm.worker import Worker
from decoder.worker import DecoderWorker
from encoder.worker import EncoderWorker
from scheduler.actor import Scheduler
from scheduler.placement import Placement
from scheduler.workers import EncodeWorker

FAST, SLOW = "encoder-0", "encoder-1"
SLOW_SHARE = 0.4  # of the time in which the slow encoder runs, where the two are to be unequal
START_ATTEMPTS = 2  # an engine may lose its port to somebody else once
POLL_S = 0.1
MEETING_TIMEOUT_S = 60.0


class TwoEncoders:
    """Its engines start when it is made, and each registers with whatever scheduler there is.

    `encoding` and `decoding` are the cores of both encoders and of the decoder; None leaves it to the system.
    """

    def __init__(self, membership: Membership, encoding: str | None = None, decoding: str | None = None) -> None:
        self._membership = membership
        self._scheduler = Scheduler(membership.scheduler, membership.config, membership.keys)
        self._scheduler.endpoint()
        self._gateway = Gateway(membership)
        self.url = self._gateway.url()
        self._workers: list[Worker] = [
            EncoderWorker(FAST, membership, _here, cpus=encoding),
            EncoderWorker(SLOW, membership, _here, cpus=encoding),
            DecoderWorker("decoder-0", membership, _here, cpus=decoding),
        ]

    def wait_ready(self, display: StartDisplay) -> None:
        """Return when every engine answers.

        Raises:
            EngineFailed: one could not be started, or they took too long.
        """
        from chiasm.member import MemberProgress  # Ray comes with it, which other benchmarks need not wait for

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

    @contextmanager
    def unequal(self) -> Iterator[None]:
        """Hold the slow encoder's engine to `SLOW_SHARE` of the time, for as long as the context lasts."""
        with held_to(SLOW_SHARE, _engine_of(SLOW)):
            yield

    @contextmanager
    def halves(self) -> Iterator[None]:
        """Give each encoder's engine half of the time, in turn, whether the other has work or not, for as long as the
        context lasts: on one core they are two of half its speed.
        """
        with taking_turns([_engine_of(FAST), _engine_of(SLOW)]):
            yield

    def stop(self) -> None:
        """End everything; returns when the engines are gone."""
        with ThreadPoolExecutor(len(self._workers)) as pool:
            list(pool.map(Worker.stop, self._workers))
        self._gateway.stop()
        self._scheduler.stop()


def _engine_of(encoder: str) -> list[psutil.Process]:
    named = f'"worker": "{encoder}"'  # among its connector's settings
    guards = [each for each in psutil.Process().children() if any(named in argument for argument in each.cmdline())]
    return [process for guard in guards for process in guard.children(recursive=True)]


@contextmanager
def two_encoders(
    config: ClusterConfig, console: Console, encoding: str | None = None, decoding: str | None = None
) -> Iterator[TwoEncoders]:
    """A cluster that is ready, for as long as the context lasts; what its engines say on stdout is dropped.

    `encoding` and `decoding`: see `TwoEncoders`.

    The program ends if the model cannot be split.

    Raises:
        EngineFailed: an engine could not be started.
    """
    from chiasm.cli import prepare  # the command line in its turn imports the benchmarks

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
        with redirect_stdout(nowhere):
            cluster = TwoEncoders(membership, encoding, decoding)
            try:
                with StartDisplay(console) as display:
                    cluster.wait_ready(display)
                yield cluster
            finally:
                cluster.stop()


def _here() -> Landing:
    return Landing("127.0.0.1")
