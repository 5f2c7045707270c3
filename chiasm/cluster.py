"""Ray's part: places the actors, and finds them again. No request, no token and no tensor passes through here."""

import contextlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from chiasm.config import ClusterConfig
from chiasm.cores import cores_of, share_cores, started_on
from chiasm.gateway.actor import Gateway
from chiasm.member import Member, MemberProgress
from chiasm.membership import Membership
from chiasm.pools import PoolConfig
from chiasm.preflight import ModelFacts
from chiasm.ray_life import is_another_life, landing_here
from chiasm.silicon.fleet import reported_cards
from chiasm.whole import WholeWorker
from chiasm.wire.keys import ClusterKeys
from decoder.worker import DecoderWorker
from encoder.worker import EncoderWorker
from scheduler.actor import Scheduler

NAMESPACE = "chiasm"
POLL_S = 0.25
PROGRESS_TIMEOUT_S = 2.0
START_ATTEMPTS = 2  # an engine may lose its port to somebody else once
CALL_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0
SMALL = 0.1  # logical CPUs of an actor: more than nothing, or Ray's autoscaler may take its node for idle

SPARE_THE_GUARD = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""For actors that own engines. Ray ends them by itself when the driver has died, and first kills the children of their
process, unless told not to: the guard among them, which is to end an engine with all of its processes."""


class ClusterFailed(RuntimeError):
    """The cluster did not come up; the message says which part, and why."""


@contextlib.contextmanager
def ray_session(address: str | None, verbose: bool, cores: set[int] | None = None) -> Iterator[None]:
    """Join the Ray cluster at `address`, or run one on this machine for as long as the context lasts.

    `cores` are those that a Ray of its own, and whatever it starts, is kept to; None leaves it to the system.

    Raises:
        ClusterFailed: Ray does not start, or cannot be joined.

    For a Ray of its own, `chiasm.ray_token.use_own_token` must have been called before this module was imported.
    To be used in the main thread.
    """
    told_to_end = signal.getsignal(signal.SIGTERM)
    alone: dict[str, Any] = {}
    if address is None:
        alone = {"_node_ip_address": "127.0.0.1"}
        # Ray gives its workers, and so our engines, the lowest priority but four; whatever runs beside them would win.
        os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        with started_on(cores):
            ray.init(
                address=address or "local",
                **alone,
                namespace=NAMESPACE,
                include_dashboard=False if address is None else None,
                log_to_driver=verbose,
                logging_level=logging.WARNING,
                configure_logging=False,
            )
    except Exception as error:  # Ray raises plain ones here
        where = f"no Ray cluster can be joined at {address}" if address else "Ray does not start on this machine"
        raise ClusterFailed(f"{where}: {error}") from error
    signal.signal(signal.SIGTERM, told_to_end)  # Ray has put its own there, which ends the process at once
    try:
        yield
    finally:
        ray.shutdown()


def gpus_by_name() -> dict[str, int]:
    """How many cards the joined Ray cluster has, by the names that it gives them."""
    return reported_cards(ray.nodes())


class Cluster:
    """Scheduler, gateway and workers of one configuration, placed on the Ray cluster that this process is joined to."""

    def __init__(self, config: ClusterConfig, facts: ModelFacts, one_machine: bool) -> None:
        self._config = config
        self._meeting = Path(tempfile.mkdtemp(prefix="chiasm-"))
        here = ray.util.get_node_ip_address()
        endpoint = f"ipc://{self._meeting}/scheduler" if one_machine else f"tcp://{here}:{config.scheduler.port}"
        self._membership = Membership(
            config=config,
            facts=facts,
            token=secrets.token_urlsafe(32),
            keys=ClusterKeys.generate(),
            scheduler=endpoint,
            one_machine=one_machine,
        )
        self.members: list[Member] = []
        self._scheduler: Any = None
        self._gateway: Any = None
        self.url = ""

    def start(self) -> None:
        """Place everything. Returns when the gateway listens; engines go on starting (see `progress`).

        Raises:
            ClusterFailed: the scheduler or the gateway could not start, e.g. because the port is taken.
        """
        try:
            self._start()
        except ValueError as error:  # Ray's word for a name that is taken
            raise ClusterFailed(f"another Chiasm cluster runs on this Ray cluster: {error}") from error

    def _start(self) -> None:
        membership = self._membership
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        common = {"num_cpus": SMALL, "max_restarts": -1, "scheduling_strategy": here}
        self._scheduler = (
            ray.remote(Scheduler)
            .options(name="scheduler", **common)
            .remote(membership.scheduler, membership.config, membership.keys, another_life=is_another_life)
        )
        self._answer(self._scheduler.endpoint.remote(), "the scheduler")
        # No accelerator for the gateway, though Ray would let an actor without GPUs see them all.
        hidden = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        placed = ray.remote(Gateway).options(name="gateway", runtime_env=hidden, **common)
        self._gateway = placed.remote(membership, is_another_life)
        self.url = self._answer(self._gateway.url.remote(), "the gateway")
        cores = share_cores(self._config) if membership.one_machine else {}
        pools = [
            ("encoder", EncoderWorker, self._config.encoders),
            ("decoder", DecoderWorker, self._config.decoders),
            ("whole", WholeWorker, self._config.wholes),
        ]
        # Who may go elsewhere goes last: a fallback must not take the place of somebody who belongs there.
        for kind, worker, pool in sorted(pools, key=lambda one: bool(one[2].fallbacks)):
            self._place(kind, worker, pool, cores)

    def _answer(self, reference: Any, who: str) -> Any:
        try:
            return ray.get(reference, timeout=CALL_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise ClusterFailed(f"{who} could not start: {cause}") from error

    def _place(self, kind: str, worker: type, pool: PoolConfig, cores: dict[str, str]) -> None:
        # Where it is, is asked where Ray places the worker, so the function goes there, not its answer.
        land = partial(landing_here, pool.labels, pool.fallbacks)
        for index in range(pool.count):
            name = f"{kind}-{index}"
            cpus = cores_of(name, index, pool, cores)
            placed = ray.remote(worker).options(
                name=name,
                num_cpus=SMALL,
                num_gpus=pool.gpus,
                resources=pool.resources or None,
                label_selector=pool.labels or None,
                fallback_strategy=[{"label_selector": labels} for labels in pool.fallbacks] or None,
                max_restarts=-1,
                runtime_env={"env_vars": SPARE_THE_GUARD},
            )
            self.members.append(Member(name, partial(placed.remote, name, self._membership, land, cpus)))

    def progress(self) -> list[MemberProgress]:
        """How far each engine has come; of a worker that Ray has not placed yet, that it waits."""
        asked = [member.handle.progress.remote() for member in self.members]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=PROGRESS_TIMEOUT_S)
        return [
            one
            for member, reference in zip(self.members, asked, strict=True)
            for one in member.progress(reference if reference in done else None)
        ]

    def wait_ready(self, on_progress: Callable[[list[MemberProgress]], None]) -> None:
        """Return when every engine answers; `on_progress` is called several times a second.

        Raises:
            ClusterFailed: an engine failed to start, or they were not all ready in time; the log's last lines included.
        """
        deadline = time.monotonic() + self._config.engine_start_timeout_s
        while True:
            report = self.progress()
            on_progress(report)
            if all(member.ready for member in report):
                return
            for member in report:
                if member.error is not None and member.restarts >= START_ATTEMPTS:
                    raise ClusterFailed(member.error)
            if time.monotonic() > deadline:
                missing = ", ".join(f"{member.name} ({member.stage})" for member in report if not member.ready)
                raise ClusterFailed(f"not ready after {self._config.engine_start_timeout_s:.0f} s: {missing}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End every engine and actor; returns when they are gone.

        The gateway goes first: until the answers under way have ended (`gateway.drain_s`), all others are needed.
        """
        if self._gateway is not None:
            ray.wait([self._gateway.stop.remote()], timeout=self._config.gateway.drain_s + STOP_TIMEOUT_S)
        handles = [member.handle for member in self.members]
        handles += [handle for handle in (self._gateway, self._scheduler) if handle is not None]
        # What Ray has not placed yet would never answer.
        answering = [member.handle for member in self.members if member.engines]
        answering += [self._scheduler] if self._scheduler is not None else []
        stopping = [handle.stop.remote() for handle in answering]
        if stopping:
            ray.wait(stopping, num_returns=len(stopping), timeout=STOP_TIMEOUT_S)
        for handle in handles:
            ray.kill(handle)
        shutil.rmtree(self._meeting, ignore_errors=True)
