"""Keeps one engine alive and the scheduler informed of it: start, register, heartbeat, notice its death, start again.

It must not import Ray: the worker actors of `encoder/` and `decoder/` run it.
"""

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol

from chiasm import messages
from chiasm.capacity import Measure
from chiasm.config import ClusterConfig
from chiasm.engine import Engine, EngineFailed, EngineSpec
from chiasm.holding import Holding
from chiasm.landing import Landing
from chiasm.messages import NOBODY
from chiasm.model_files import fault_of
from chiasm.nouns import WorkerId
from chiasm.wire.channel import ChannelClient

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
LONG_LIFE_S = 120.0  # an engine that served this long dies of something new: retry at once
LEAVING = "leaving"
LEAVES = "its node is to go, so it takes no more requests"
AT_REST_TIMEOUT_S = 2.0

_REQUESTS = re.compile(r"^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Progress:
    """How far a worker has come, for whoever watches the start."""

    stage: str
    seconds: float  # in this life of the engine
    ready: bool
    restarts: int
    error: str | None  # why the last life ended
    fallback: str = ""  # see `Landing`


def has_no_request(page: str) -> bool:
    """Whether an engine with these metrics has nothing to do; one that keeps no statistics does not say so."""
    requests = _REQUESTS.findall(page)
    return bool(requests) and not any(map(float, requests))


def has_no_transfer(report: str) -> bool:
    """Whether no embedding is on its way from an engine with this report (`chiasm.plugins.EngineReport`)."""
    return not any(rank["connector"].get("open") for rank in json.loads(report))


Beside = Callable[[Engine, ChannelClient], Coroutine[Any, Any, None]]
"""What a worker does beside its engine while that lives."""


class Tuning(Protocol):
    """Finds arguments for an engine by trying it."""

    def flags(self) -> tuple[str, ...]:
        """What to start it with next, before its own arguments, which win."""

    async def settle(self, engine: Engine) -> bool:
        """Look at an engine that is ready and has no work yet; False has it started again, with other `flags`."""


class Supervisor:
    """Runs until cancelled; then the engine is stopped."""

    def __init__(
        self,
        spec: EngineSpec,
        config: ClusterConfig,
        landing: Landing,
        connect: Callable[[], ChannelClient],
        measure: Measure,
        beside: Beside | None = None,
        card_of: WorkerId = NOBODY,  # the encoder whose card the engine shares
        tuning: Tuning | None = None,
    ) -> None:
        self._spec = spec
        self._config = config
        self._landing = landing
        self._connect = connect
        self._measure = measure
        self._beside = beside
        self._card_of = card_of
        self._tuning = tuning
        self._leaving = asyncio.Event()
        self._engine: Engine | None = None
        self._born = time.monotonic()
        self._ready = False
        self._ready_since: float | None = None
        self._restarts = 0
        self._registrations = 0
        self._error: str | None = None

    @property
    def progress(self) -> Progress:
        """Where it stands. May be read from any thread."""
        engine = self._engine
        if self._leaving.is_set():
            stage = LEAVING
        elif engine is not None:
            stage = engine.stage
        else:
            stage = "waiting to start again" if self._restarts else "starting"
        return Progress(
            stage, time.monotonic() - self._born, self._ready, self._restarts, self._error, self._landing.fallback
        )

    def leave(self) -> None:
        """Have the scheduler hand nothing more to the engine, which goes on with what it has, and is not started again.

        To be called in the event loop.
        """
        self._leaving.set()
        self._ready, self._error = False, LEAVES

    def at_rest(self) -> bool:
        """Whether no engine has come up, or it says that it has no request and that nobody fetches from it.

        Asks it, so it may take a moment. May be called from any thread.
        """
        engine = self._engine
        if engine is None or self._ready_since is None:
            return True
        try:
            return has_no_request(engine.get("/metrics", AT_REST_TIMEOUT_S)) and has_no_transfer(
                engine.get("/v1/chiasm/report", AT_REST_TIMEOUT_S)
            )
        except OSError:
            return False

    async def run(self) -> None:
        """Start the engine again and again until cancelled, or until it ends after `leave`."""
        delay = FIRST_RETRY_S
        while not self._leaving.is_set():
            self._born = time.monotonic()
            # A channel for each life: what the scheduler has told an engine that is gone must not reach the next.
            with contextlib.closing(self._connect()) as channel:
                try:
                    await self._one_life(channel)
                    continue
                except EngineFailed as failure:
                    self._error = str(failure)
                    logger.error("%s", failure)
                except Exception as failure:  # whatever it was, the next life may do better than none
                    self._error = f"{type(failure).__name__}: {failure}"
                    logger.exception("%s failed", self._spec.name)
                if self._leaving.is_set():
                    return
                served_long = self._ready_since is not None and time.monotonic() - self._ready_since > LONG_LIFE_S
                delay = FIRST_RETRY_S if served_long else min(2 * delay, LONGEST_RETRY_S)
                self._ready_since = None
                self._restarts += 1
                await asyncio.sleep(delay)  # before the channel closes, which still has to say that the engine is lost

    async def _one_life(self, channel: ChannelClient) -> None:
        """Return when the engine is to be started again with other flags.

        Raises:
            EngineFailed: the engine ended by itself, or did not do as it was told; or this host has another model.
        """
        if fault := await asyncio.to_thread(fault_of, self._spec.model, self._spec.files):
            raise EngineFailed(f"{self._spec.name} at {self._landing.address}: {fault}")
        async with self._running_engine() as engine:
            await asyncio.to_thread(engine.wait_ready, self._config.engine_start_timeout_s)
            if self._tuning is not None and not await self._tuning.settle(engine):
                return
            register = await self._registration(engine)
            self._ready_since = time.monotonic()
            holding = Holding(engine)
            self._introduce(channel, register)
            tasks = [
                asyncio.create_task(self._report(channel, register.worker)),
                asyncio.create_task(self._obey(channel, register, engine, holding)),
                asyncio.create_task(holding.keep()),
                asyncio.create_task(self._take_leave(channel, register.worker, engine, holding)),
            ]
            if self._beside is not None:
                tasks.append(asyncio.create_task(self._beside(engine, channel)))
            try:
                ended = asyncio.create_task(asyncio.to_thread(engine.wait))
                done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
                if ended in done:
                    raise engine.failure()
                for task in done:
                    task.result()  # these never end by themselves, so this raises what ended it
            except Exception as failure:
                channel.send(messages.Lost(register.worker, str(failure).partition(";")[0]))
                raise
            finally:
                self._ready = False
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _registration(self, engine: Engine) -> messages.Register:
        capacity = await asyncio.to_thread(self._measure, engine)
        chunk = f", {capacity.prefill_tokens:,} prompt tokens a step" if capacity.prefill_tokens else ""
        engine.stage = f"ready{chunk}"
        return messages.Register(
            worker=WorkerId(self._spec.name),
            role=self._spec.role,
            node=self._landing.address,
            url=engine.url,
            slots=capacity.slots,
            kv_tokens=capacity.kv_tokens,
            tokens_per_s=capacity.tokens_per_s,
            store_bytes=capacity.store_bytes,
            host=self._card_of,
            prefill_tokens=capacity.prefill_tokens,
            fallback=self._landing.fallback,
        )

    @contextlib.asynccontextmanager
    async def _running_engine(self) -> AsyncIterator[Engine]:
        flags = self._tuning.flags() if self._tuning is not None else ()
        self._engine = engine = Engine(replace(self._spec, args=(*flags, *self._spec.args)), log=print)
        try:
            yield engine
        finally:
            # Not to_thread alone: the stop must go on to its end even when this task is being cancelled.
            await asyncio.shield(asyncio.to_thread(engine.stop))
            self._engine = None

    def _introduce(self, channel: ChannelClient, register: messages.Register) -> None:
        if not self._leaving.is_set():
            self._registrations += 1
            self._ready, self._error = True, None
            channel.send(register)

    async def _report(self, channel: ChannelClient, worker: WorkerId) -> None:
        """Heartbeats go on while the engine's process lives; whether it answers shows when the scheduler asks."""
        while True:
            await asyncio.sleep(self._config.scheduler.heartbeat_s)
            if not self._leaving.is_set():
                channel.send(messages.Heartbeat(worker, self._registrations))

    async def _take_leave(self, channel: ChannelClient, worker: WorkerId, engine: Engine, holding: Holding) -> None:
        await self._leaving.wait()
        channel.send(messages.Lost(worker, LEAVES))
        holding.want(False)  # nobody else would let it go
        await asyncio.Event().wait()

    async def _obey(
        self, channel: ChannelClient, register: messages.Register, engine: Engine, holding: Holding
    ) -> None:
        while True:
            message = await channel.receive()
            if isinstance(message, messages.Unknown):
                if message.registrations != self._registrations:
                    continue  # a second registration would cost what the first has been handed since
                if await asyncio.to_thread(engine.answers):
                    holding.want(False)  # who has forgotten the engine has forgotten that it is held
                    self._introduce(channel, register)
            elif isinstance(message, messages.Pause | messages.Resume):
                holding.want(isinstance(message, messages.Pause) and not self._leaving.is_set())
            else:
                logger.warning("unexpected %s from the scheduler", type(message).__name__)
