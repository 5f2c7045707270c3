"""A supervised engine and the scheduler: what each hears of the other, with an engine that only looks like one."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

import chiasm.supervisor
from chiasm.capacity import Capacity
from chiasm.config import ClusterConfig, SchedulerConfig
from chiasm.engine import EngineFailed, EngineSpec
from chiasm.landing import Landing
from chiasm.messages import Heartbeat, Lost, Pause, Register, Resume, Unknown
from chiasm.nouns import Role, WorkerId
from chiasm.supervisor import LEAVES, LEAVING, Supervisor

NAME = WorkerId("encoder-0-text")
PATIENCE_S = 10.0
SPEC = EngineSpec(NAME, Role.TEXT, "m", "m", "token", args=("--own",))


class FakeEngine:
    """Ready once it is loaded; lives until it is stopped or killed."""

    url = "http://engine"
    stage = "ready"

    def __init__(self, spec: EngineSpec, log: Callable[[str], None], loaded: threading.Event) -> None:
        self.spec = spec
        self._loaded = loaded
        self.held: list[bool] = []
        self.stubborn = False
        self.asked = 0  # how often whether it answers
        self.page: str | None = None  # its metrics
        self.open = 0  # transfers
        self.ended = threading.Event()

    def wait_ready(self, timeout_s: float) -> None:
        self._loaded.wait(PATIENCE_S)

    def answers(self) -> bool:
        self.asked += 1
        return True

    def hold(self, held: bool, since: float) -> None:
        if self.stubborn:
            raise EngineFailed(
                "encoder-0-text did not pause when told: timed out; the last lines of its log:\n  a line"
            )
        self.held.append(held)

    def get(self, path: str, timeout_s: float) -> str:
        pages = {"/metrics": self.page, "/v1/chiasm/report": json.dumps([{"connector": {"open": self.open}}])}
        page = pages.get(path)
        if page is None:
            raise OSError(f"no {path} within {timeout_s} s")
        return page

    def wait(self) -> int:
        self.ended.wait()
        return 0

    def failure(self) -> EngineFailed:
        return EngineFailed("encoder-0-text ended with exit code 1; the last lines of its log:\n  a line")

    stop = kill = lambda self: self.ended.set()


class FakeChannel:
    """One life's channel to the scheduler."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    def send(self, message: Any) -> bool:
        assert not self.closed
        self.sent.append(message)
        return True

    async def receive(self) -> Any:
        return await self.inbox.get()

    def close(self) -> None:
        self.closed = True


class FakeTuning:
    """Has the first engine started again, with a flag."""

    def __init__(self) -> None:
        self.tried: list[FakeEngine] = []

    def flags(self) -> tuple[str, ...]:
        return ("--found",) if self.tried else ()

    async def settle(self, engine: Any) -> bool:
        self.tried.append(engine)
        return len(self.tried) > 1


class Supervised:
    def __init__(
        self,
        tuning: FakeTuning | None = None,
        heartbeat_s: float = 600.0,
        spec: EngineSpec = SPEC,
        loaded: bool = True,
    ) -> None:
        self.loaded = threading.Event()
        if loaded:
            self.loaded.set()
        self.engines: list[FakeEngine] = []
        self.channels: list[FakeChannel] = []
        config = ClusterConfig(scheduler=SchedulerConfig(heartbeat_s=heartbeat_s, heartbeat_timeout_s=6000.0))
        self.supervisor = Supervisor(
            spec,
            config,
            Landing("node", "no node could take it"),
            self.connect,
            lambda _engine: Capacity(2, 1000, 50.0, prefill_tokens=4096 if tuning is not None else 0),
            card_of=WorkerId("encoder-0"),
            tuning=tuning,
        )

    def connect(self) -> Any:
        self.channels.append(FakeChannel())
        return self.channels[-1]

    def make_engine(self, spec: EngineSpec, log: Callable[[str], None]) -> FakeEngine:
        self.engines.append(FakeEngine(spec, log, self.loaded))
        return self.engines[-1]

    def sent(self, kind: type) -> list[Any]:
        return [message for message in self.channels[-1].sent if isinstance(message, kind)]

    async def life(self, number: int) -> tuple[FakeEngine, FakeChannel]:
        """The engine and the channel of a life, once it has registered."""
        await until(lambda: len(self.channels) == number and bool(self.sent(Register)))
        return self.engines[-1], self.channels[-1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for happens in threads, too
            await asyncio.sleep(0.001)


@pytest.fixture
async def supervised(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[Supervised]:
    supervised = Supervised(**getattr(request, "param", {}))
    monkeypatch.setattr(chiasm.supervisor, "Engine", supervised.make_engine)
    monkeypatch.setattr(chiasm.supervisor, "FIRST_RETRY_S", 0.001)
    running = asyncio.create_task(supervised.supervisor.run())
    yield supervised
    supervised.loaded.set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert all(engine.ended.is_set() for engine in supervised.engines)
    assert all(channel.closed for channel in supervised.channels)


async def test_a_guest_registers_under_the_encoder_whose_card_it_shares(supervised: Supervised) -> None:
    await supervised.life(1)
    assert supervised.sent(Register) == [
        Register(
            NAME,
            Role.TEXT,
            "node",
            "http://engine",
            2,
            1000,
            50.0,
            host=WorkerId("encoder-0"),
            fallback="no node could take it",
        )
    ]


@pytest.mark.parametrize("supervised", [{"spec": replace(SPEC, model="/nowhere/m", files="digest")}], indirect=True)
async def test_a_host_without_the_model_says_so_and_starts_no_engine(supervised: Supervised) -> None:
    await until(lambda: supervised.supervisor.progress.restarts > 1)
    error = supervised.supervisor.progress.error
    assert error is not None
    assert error.startswith("encoder-0-text at node: there is no /nowhere/m on this host to be read")
    assert supervised.engines == []


async def test_the_scheduler_holds_the_engine_and_lets_it_go(supervised: Supervised) -> None:
    engine, channel = await supervised.life(1)
    for number, message in enumerate((Pause(NAME), Resume(NAME), Pause(NAME)), 1):
        channel.inbox.put_nowait(message)
        await until(lambda number=number: len(engine.held) == number)
    assert engine.held == [True, False, True]
    assert supervised.sent(Lost) == []


async def test_an_engine_that_is_not_held_when_told_is_lost_and_started_again(supervised: Supervised) -> None:
    engine, channel = await supervised.life(1)
    engine.stubborn = True
    channel.inbox.put_nowait(Pause(NAME))
    await until(engine.ended.is_set)
    assert channel.sent[-1] == Lost(NAME, "encoder-0-text did not pause when told: timed out")
    fresh, _ = await supervised.life(2)
    assert fresh is not engine
    assert (supervised.supervisor.progress.ready, supervised.supervisor.progress.restarts) == (True, 1)


async def test_an_engine_starts_unheld_whatever_was_said_to_the_one_before(supervised: Supervised) -> None:
    engine, channel = await supervised.life(1)
    engine.kill()
    await until(lambda: any(isinstance(message, Lost) for message in channel.sent))
    channel.inbox.put_nowait(Pause(NAME))  # was under way when the engine died
    fresh, new_channel = await supervised.life(2)
    new_channel.inbox.put_nowait(Unknown(NAME, registrations=2))
    await until(lambda: len(supervised.sent(Register)) == 2)
    assert fresh.held == []


async def test_who_registers_anew_is_held_no_longer(supervised: Supervised) -> None:
    """The scheduler has forgotten the engine, and so that it is held: nobody would ever let it go."""
    engine, channel = await supervised.life(1)
    channel.inbox.put_nowait(Pause(NAME))
    await until(lambda: engine.held == [True])
    channel.inbox.put_nowait(Unknown(NAME, registrations=1))
    await until(lambda: engine.held == [True, False])
    assert len(supervised.sent(Register)) == 2


async def test_heartbeats_that_nobody_knew_make_one_registration(supervised: Supervised) -> None:
    """A second would cost what the scheduler has handed out since the first."""
    _, channel = await supervised.life(1)
    for _ in range(3):  # sent while the scheduler was away, or while the engine was asked whether it answers
        channel.inbox.put_nowait(Unknown(NAME, registrations=1))
    channel.inbox.put_nowait(Unknown(NAME, registrations=2))  # this registration was lost
    await until(lambda: channel.inbox.empty() and len(supervised.sent(Register)) == 3)
    channel.inbox.put_nowait(Unknown(NAME, registrations=3))
    await until(lambda: len(supervised.sent(Register)) == 4)


@pytest.mark.parametrize("supervised", [{"heartbeat_s": 0.001}], indirect=True)
async def test_heartbeats_say_how_often_their_worker_has_registered(supervised: Supervised) -> None:
    _, channel = await supervised.life(1)
    await until(lambda: bool(supervised.sent(Heartbeat)))
    channel.inbox.put_nowait(Unknown(NAME, registrations=1))
    await until(lambda: supervised.sent(Heartbeat)[-1] == Heartbeat(NAME, registrations=2))
    assert supervised.sent(Heartbeat)[0] == Heartbeat(NAME, registrations=1)


@pytest.mark.parametrize("supervised", [{"tuning": FakeTuning()}], indirect=True)
async def test_an_engine_is_started_again_with_what_was_found_by_trying_it(supervised: Supervised) -> None:
    engine, channel = await supervised.life(2)
    tried, _ = supervised.engines
    assert tried.ended.is_set()
    assert (tried.spec.args, engine.spec.args) == (
        ("--own",),
        ("--found", "--own"),
    )  # what is its own comes last: it wins
    assert [type(message) for message in channel.sent] == [Register]
    assert supervised.channels[0].sent == []  # nobody has heard of the first, and nothing has failed
    progress = supervised.supervisor.progress
    assert (progress.ready, progress.restarts, progress.error) == (True, 0, None)
    assert progress.stage == "ready, 4,096 prompt tokens a step"
    engine.kill()
    again, _ = await supervised.life(3)
    assert again.spec.args == ("--found", "--own")


@pytest.mark.parametrize("supervised", [{"heartbeat_s": 0.001}], indirect=True)
async def test_an_engine_whose_node_is_to_go_is_handed_nothing_more_and_lives_on(supervised: Supervised) -> None:
    engine, channel = await supervised.life(1)
    await until(lambda: bool(supervised.sent(Heartbeat)))
    channel.inbox.put_nowait(Pause(NAME))
    await until(lambda: engine.held == [True])
    supervised.supervisor.leave()
    await until(lambda: engine.held == [True, False])  # nobody else would let it go
    assert supervised.sent(Lost) == [Lost(NAME, LEAVES)]
    progress = supervised.supervisor.progress
    assert (progress.ready, progress.stage, progress.error) == (False, LEAVING, LEAVES)
    channel.inbox.put_nowait(Pause(NAME))  # was under way
    for number in (1, 2):
        channel.inbox.put_nowait(Unknown(NAME, registrations=1))
        await until(lambda number=number: engine.asked == number)
    assert not engine.ended.is_set()
    engine.kill()
    await until(lambda: channel.closed)
    assert channel.sent[-1] == Lost(NAME, "encoder-0-text ended with exit code 1")
    assert channel.sent[-2] == Lost(NAME, LEAVES)
    assert engine.held == [True, False]
    assert len(supervised.sent(Register)) == 1


async def test_an_engine_that_dies_after_its_leave_is_not_started_again(supervised: Supervised) -> None:
    engine, channel = await supervised.life(1)
    supervised.supervisor.leave()
    await until(lambda: bool(supervised.sent(Lost)))
    assert not supervised.supervisor.at_rest()
    engine.kill()
    await until(lambda: channel.closed)
    assert supervised.engines == [engine]
    assert supervised.supervisor.at_rest()


async def test_who_leaves_between_two_lives_of_its_engine_starts_none(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chiasm.supervisor, "FIRST_RETRY_S", 0.2)  # from now on, as `LONG_LIFE_S` has passed
    monkeypatch.setattr(chiasm.supervisor, "LONG_LIFE_S", -1.0)
    engine, channel = await supervised.life(1)
    engine.kill()
    await until(lambda: supervised.supervisor.progress.restarts == 1)
    supervised.supervisor.leave()
    progress = supervised.supervisor.progress
    assert (progress.ready, progress.stage, progress.error) == (False, LEAVING, LEAVES)
    assert supervised.supervisor.at_rest()
    await until(lambda: channel.closed)
    assert supervised.channels == [channel]  # each life has one


@pytest.mark.parametrize("supervised", [{"tuning": FakeTuning(), "loaded": False}], indirect=True)
async def test_who_leaves_while_its_engine_is_tried_starts_no_other(supervised: Supervised) -> None:
    await until(lambda: bool(supervised.engines))
    supervised.supervisor.leave()
    supervised.loaded.set()
    await until(lambda: supervised.channels[0].closed)
    assert len(supervised.channels) == 1  # each life has one


@pytest.mark.parametrize("supervised", [{"loaded": False}], indirect=True)
async def test_an_engine_that_has_not_come_up_keeps_nobody_from_leaving(supervised: Supervised) -> None:
    await until(lambda: bool(supervised.engines))
    assert supervised.supervisor.at_rest()
    supervised.supervisor.leave()
    supervised.loaded.set()
    await until(lambda: not supervised.supervisor.at_rest())  # it is up now, and does not say what it has
    progress = supervised.supervisor.progress
    assert (progress.ready, progress.stage, progress.error) == (False, LEAVING, LEAVES)
    assert supervised.sent(Register) == []


REQUESTS = 'vllm:num_requests_{0}{{engine="0",model_name="m"}} {1}\n'


@pytest.mark.parametrize(
    ("page", "transfers", "at_rest"),
    [
        (REQUESTS.format("running", "0.0") + REQUESTS.format("waiting", "0.0"), 0, True),
        (REQUESTS.format("running", "0.0") + REQUESTS.format("waiting", "0.0"), 1, False),
        (REQUESTS.format("running", "1.0") + REQUESTS.format("waiting", "0.0"), 0, False),
        (REQUESTS.format("running", "0.0") + REQUESTS.format("waiting", "2.0"), 0, False),
        ("chiasm_published_bytes_total 0.0\n", 0, False),  # it keeps no statistics
        (None, 0, False),
    ],
)
async def test_an_engine_is_at_rest_when_it_says_so(
    supervised: Supervised, page: str | None, transfers: int, at_rest: bool
) -> None:
    engine, _ = await supervised.life(1)
    engine.page, engine.open = page, transfers
    assert supervised.supervisor.at_rest() is at_rest
