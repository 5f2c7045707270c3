"""Arbitrary interleavings of everything that gateways, workers and clocks can do, right or wrong, early or late."""

from unittest.mock import patch

import msgspec
import pytest
from core_driver import Driver, embedding, register
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chiasm.config import SchedulerConfig
from chiasm.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Decode,
    DecodeBegun,
    DecodeDone,
    DecodeFailed,
    Encode,
    EncodeDone,
    EncodeFailed,
    Evicted,
    Heartbeat,
    Lost,
    Pause,
    Reject,
    Resume,
    Return,
    Returned,
    Submit,
    Unknown,
)
from chiasm.nouns import GatewayId, Item, ItemUuid, RequestId, Role, WorkerId
from scheduler import finish_index, pool
from scheduler.core import Core
from scheduler.events import Decision, Event, Refused
from scheduler.gateways import Gateways, Peer
from scheduler.stealing import Mode

pytestmark = pytest.mark.slow

REQUESTS = st.sampled_from([RequestId(f"r{n}") for n in range(30)])
UUIDS = st.sampled_from([ItemUuid(f"u{n}") for n in range(5)])
WORKERS = {
    WorkerId("e0"): Role.ENCODER,
    WorkerId("e1"): Role.ENCODER,
    WorkerId("d0"): Role.DECODER,
    WorkerId("d1"): Role.DECODER,
    WorkerId("t0"): Role.TEXT,
    WorkerId("w0"): Role.WHOLE,
    WorkerId("w1"): Role.WHOLE,
    WorkerId("x0"): Role.TEXT,
    WorkerId("x1"): Role.TEXT,
}
HOSTS = {WorkerId("x0"): "e0", WorkerId("x1"): "e1"}  # thieves, and the encoders whose cards they share
SPLIT = ("e0", "d0", "d1")
STEALING = ("e0", "d0", "x0")
TWO_THIEVES = ("e0", "e1", "d0", "x0", "x1")
EITHER = ("e0", "d0", "w0")
ANY_WORKER = st.sampled_from(list(WORKERS))
GATEWAYS = {b"even": GatewayId("g0"), b"odd": GatewayId("g1")}  # by their connections
Report = EncodeDone | EncodeFailed | DecodeBegun | DecodeDone | DecodeFailed | Returned

OUTCOMES = ("good", "good", "good", "retry", "bad", "lost", "unreachable")


def sender(request: RequestId) -> Peer:
    return b"odd" if int(request[1:]) % 2 else b"even"


class CoreMachine(RuleBasedStateMachine):
    """Plays all gateways and all workers, and keeps its own account of what may be true."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SchedulerConfig(queue_limit=12, max_attempts=2, look_ahead=1, cached_items=3)
        self.stealing: Mode = "yield"
        self.now = 0.0
        self.begin_core()
        self.live: set[RequestId] = set()
        self.alive: dict[WorkerId, Role] = {}
        self.held: set[tuple[str, ItemUuid]] = set()  # what decoders may be told to fetch
        self.posted: list[Encode | Decode | Return] = []  # not yet reported on
        self.started: set[RequestId] = set()  # live requests that were handed to an engine before
        self.text: dict[RequestId, bool] = {}  # live requests: text that may be stolen?
        self.held_engines: set[WorkerId] = set()  # thieves that have been told to pause
        self.reported: list[Report] = []
        self.submits: dict[RequestId, Submit] = {}  # the latest of each
        self.forgotten: set[RequestId] = set()  # by a core that is no more, while they were decoded
        self.fresh = 0

    def new_core(self) -> Core:
        return Core(self.config, stealing=self.stealing, itl_slo_s=0.15)

    def begin_core(self) -> None:
        self.core = self.new_core()
        self.history: list[tuple[Event | None, float, list[Decision]]] = []
        self.done = 0
        self.gateways = Gateways()
        for peer, gateway in GATEWAYS.items():
            self.gateways.join(peer, gateway, 0.0)

    # -- one step ------------------------------------------------------------------------------------------------

    def step(self, event: Event | None) -> list[Decision]:
        """None is a tick."""
        decisions = self.core.tick(self.now) if event is None else self.core.handle(event, self.now)
        self.history.append((event, self.now, decisions))
        self.core.check_integrity()
        status = self.core.status(RequestId("status"), self.now)
        self.alive = {worker.worker: worker.role for worker in status.workers}
        self.held = {(worker, uuid) for worker, uuid in self.held if worker in self.alive}
        if isinstance(event, DecodeDone) and status.counters["done"] > self.done:
            self.end(event.request)
        self.done = status.counters["done"]
        for decision in decisions:
            self.observe(decision)
        assert status.encoding + status.withheld + status.decoding == len(self.live)
        running = {worker.worker: worker.running for worker in status.workers}
        self.held_engines &= self.alive.keys()
        for thief, host in HOSTS.items():
            busy = running.get(WorkerId(host), 0) > 0
            if self.stealing == "yield":
                assert not (busy and running.get(thief, 0)) or thief in self.held_engines, "an image waits behind text"
            assert busy or thief not in self.held_engines, "a thief is held for nothing"
        return decisions

    @invariant()
    def every_request_is_somebodys(self) -> None:
        self.gateways.check_integrity()
        assert {request: sender(request) for request in self.live} == {
            request: self.gateways.sender(request) for request in self.live
        }

    def end(self, request: RequestId) -> None:
        self.live.remove(request)  # KeyError: a second end
        self.gateways.ended(request)

    def observe(self, decision: Decision) -> None:
        if isinstance(decision, Reject):
            self.end(decision.request)
        elif isinstance(decision, Encode):
            assert decision.request in self.live
            assert self.alive[decision.worker] is Role.ENCODER
            self.posted.append(decision)
        elif isinstance(decision, Decode):
            assert decision.request in self.live
            assert self.alive[decision.worker] is decision.role
            if decision.worker in HOSTS:
                assert self.stealing != "off"
                assert self.text[decision.request], "stolen, though not text that may be stolen"
                assert decision.request not in self.started, "stolen, though it was started before"
            self.started.add(decision.request)
            for one in decision.embeddings:
                assert (one.endpoint.removeprefix("tcp://"), one.uuid) in self.held, "told to fetch what is gone"
            self.posted.append(decision)
        elif isinstance(decision, Return):
            assert decision.worker in HOSTS
            assert decision.request in self.live
            self.posted.append(decision)
        elif isinstance(decision, Pause):
            assert self.stealing == "yield"
            assert decision.worker not in self.held_engines
            self.held_engines.add(decision.worker)
        elif isinstance(decision, Resume):
            self.held_engines.remove(decision.worker)  # KeyError: it was not held
        else:
            assert isinstance(decision, Unknown | Refused)

    # -- gateways ------------------------------------------------------------------------------------------------

    @rule(sizes=st.lists(st.tuples(st.lists(UUIDS, max_size=3), st.integers(0, 60)), min_size=1, max_size=5))
    def submit_some(self, sizes: list[tuple[list[ItemUuid], int]]) -> None:
        for uuids, text in sizes:
            self.fresh += 1
            self.submit(RequestId(f"r{self.fresh}"), uuids, text, output=10, deadline=1e9)

    @rule(number=st.integers(1, 5), output=st.integers(1, 40), then=st.lists(UUIDS, max_size=3))
    def submit_text_then_images(self, number: int, output: int, then: list[ItemUuid]) -> None:
        for uuids in [[]] * number + [then] * bool(then):
            self.fresh += 1
            self.submit(RequestId(f"r{self.fresh}"), uuids, 5, output, deadline=1e9)

    @rule(
        request=REQUESTS,
        uuids=st.lists(UUIDS, max_size=3),
        text=st.integers(-1, 60),
        output=st.integers(-1, 60),
        deadline=st.sampled_from([1e9, 1e9, 1e9, 5.0, 0.0]),
        stealable=st.booleans(),
        streams=st.booleans(),
    )
    def submit(
        self,
        request: RequestId,
        uuids: list[ItemUuid],
        text: int,
        output: int,
        deadline: float,
        stealable: bool = True,
        streams: bool = True,
    ) -> None:
        items = tuple(Item(uuid, "image", 10) for uuid in uuids)
        tenant = f"t{text % 3}"
        self.send(Submit(request, items, text, output, deadline, tenant, 1.0, streams, stealable))

    def send(self, submit: Submit) -> None:
        request = submit.request
        known = request in self.live
        full = self.withheld() >= self.config.queue_limit
        if not known:
            self.started.discard(request)
            self.text[request] = submit.stealable and not submit.items
            self.submits[request] = submit
            self.forgotten.discard(request)
            self.gateways.submitted(sender(request), request)
        self.live.add(request)
        decisions = self.step(submit)
        assert known == any(isinstance(one, Refused) for one in decisions)
        assert known or not full or request not in self.live, "admitted beyond the limit"

    def withheld(self) -> int:
        """Live requests that no live engine holds."""
        workers = self.core.status(RequestId("status"), self.now).workers
        return len(self.live) - sum(worker.running for worker in workers if worker.role is not Role.ENCODER)

    @rule(request=REQUESTS)
    def cancel(self, request: RequestId) -> None:
        self.live.discard(request)
        self.gateways.ended(request)
        self.step(Cancel(request))

    @rule(peer=st.sampled_from([b"even", b"odd"]), anew=st.booleans())
    def gateway_dies(self, peer: Peer, anew: bool) -> None:
        """Its requests end, and all that they held goes to others, though it reports on nothing any more."""
        orphans = self.gateways.join(peer, GATEWAYS[peer], 0.0) if anew else self.gateways.leave(peer)
        assert set(orphans) == {request for request in self.live if sender(request) == peer}
        self.posted = [posted for posted in self.posted if posted.request not in orphans]
        for request in orphans:
            self.live.remove(request)
            self.step(Cancel(request))
        self.gateways.join(peer, GATEWAYS[peer], 0.0)  # another life of it

    @rule()
    def scheduler_restarts(self) -> None:
        """Gateways submit again what is not being decoded. Workers register when they hear that they are unknown."""
        self.replay()
        self.posted = [posted for posted in self.posted if isinstance(posted, Decode)]
        decoding = {posted.request for posted in self.posted}
        before = [request for request in self.submits if request in self.live]
        self.live, self.alive, self.held, self.held_engines = set(), {}, set(), set()
        self.begin_core()
        for request in before:
            if request in decoding:
                self.forgotten.add(request)
            else:
                self.submit_again(request)

    def submit_again(self, request: RequestId) -> None:
        submit = self.submits[request]
        if request in self.started:
            submit = msgspec.structs.replace(submit, stealable=False)
        self.send(submit)

    @precondition(lambda self: self.posted)
    @rule(
        at=st.integers(0, 100), outcome=st.sampled_from(["good", "good", "good", "retry", "bad", "lost", "unreachable"])
    )
    def answer(self, at: int, outcome: str) -> None:
        self.report(self.posted.pop(at % len(self.posted)), outcome)

    @precondition(lambda self: self.posted)
    @rule(most=st.integers(1, 8))
    def answer_well(self, most: int) -> None:
        for _ in range(min(most, len(self.posted))):
            self.report(self.posted.pop(0), "good")

    @precondition(lambda self: self.posted)
    @rule(at=st.integers(0, 100))
    def begin(self, at: int) -> None:
        posted = self.posted[at % len(self.posted)]
        self.deliver(DecodeBegun(posted.request, posted.worker, 0.2))

    def report(self, posted: Encode | Decode | Return, outcome: str) -> None:
        request, worker = posted.request, posted.worker
        if isinstance(posted, Return):
            self.deliver(Returned(request, worker, 3))
        elif isinstance(posted, Encode):
            if outcome == "good":
                self.deliver(EncodeDone(request, worker, embedding(posted.uuid, worker, 12), 0.5, 100))
            else:
                self.deliver(
                    EncodeFailed(request, worker, posted.uuid, "it broke", outcome != "bad", outcome == "unreachable")
                )
        elif outcome == "good":
            self.deliver(DecodeDone(request, worker, 5, 0.5))
        elif request in self.forgotten and outcome != "bad":
            self.submit_again(request)
        else:
            lost = tuple(one.uuid for one in posted.embeddings) if outcome == "lost" else ()
            self.deliver(DecodeFailed(request, worker, "it broke", outcome != "bad", lost, outcome == "unreachable"))

    def deliver(self, report: Report) -> None:
        if isinstance(report, EncodeDone) and report.worker in self.alive:
            self.held.add((report.worker, report.embedding.uuid))
        self.reported.append(report)
        self.step(report)

    @precondition(lambda self: self.reported)
    @rule(at=st.integers(0, 1000))
    def report_again(self, at: int) -> None:
        self.deliver(self.reported[at % len(self.reported)])

    @rule(
        request=REQUESTS,
        worker=ANY_WORKER,
        uuid=UUIDS,
        kind=st.integers(0, 5),
        retryable=st.booleans(),
        good=st.booleans(),
    )
    def report_at_random(
        self, request: RequestId, worker: WorkerId, uuid: ItemUuid, kind: int, retryable: bool, good: bool
    ) -> None:
        reports: tuple[Report, ...] = (
            EncodeDone(request, worker, embedding(uuid, worker), -1.0),
            EncodeFailed(request, worker, uuid, "it broke", retryable),
            DecodeDone(request, worker, 0, 0.0),
            DecodeFailed(request, worker, "it broke", retryable, (uuid,) if good else ()),
            Returned(request, worker, -1),
            DecodeBegun(request, worker, -1.0),
        )
        self.deliver(reports[kind])

    # -- workers and time ----------------------------------------------------------------------------------------

    @initialize(
        workers=st.sampled_from([SPLIT, STEALING, TWO_THIEVES, EITHER, EITHER, tuple(WORKERS), ("w0",), ()]),
        stealing=st.sampled_from(["yield", "yield", "share"]),
    )
    def start(self, workers: tuple[str, ...], stealing: Mode) -> None:
        self.stealing = stealing
        self.core = self.new_core()
        for worker in workers:
            self.register(WorkerId(worker), True)

    @rule(worker=ANY_WORKER, speaks=st.sampled_from([True, True, True, False]))
    def register(self, worker: WorkerId, speaks: bool) -> None:
        self.held = {(holder, uuid) for holder, uuid in self.held if holder != worker}
        role = WORKERS[worker]
        protocol = PROTOCOL_VERSION if speaks else PROTOCOL_VERSION + 1
        sizes = {"kv": 0, "store": 300} if role is Role.ENCODER else {"kv": 80, "prefill": 12}
        self.held_engines.discard(worker)
        self.step(register(worker, role, protocol=protocol, host=HOSTS.get(worker, ""), **sizes))

    @rule(worker=ANY_WORKER, dies=st.booleans())
    def lose_or_hear(self, worker: WorkerId, dies: bool) -> None:
        if dies:
            self.step(Lost(worker, "it died"))
        known = worker in self.alive
        assert self.step(Heartbeat(worker)) == ([] if known else [Unknown(worker)])

    @rule(worker=ANY_WORKER, uuids=st.lists(UUIDS, min_size=1, max_size=3))
    def evict(self, worker: WorkerId, uuids: list[ItemUuid]) -> None:
        self.held -= {(worker, uuid) for uuid in uuids}
        self.step(Evicted(worker, tuple(f"key-{uuid}" for uuid in uuids)))

    @rule(seconds=st.sampled_from([0.5, 2.0, -1e6, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.step(None)

    # -- the end -------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.drain()
        self.replay()

    def drain(self) -> None:
        """Once everything works again and everybody answers, nothing that was admitted may be left."""
        for worker in WORKERS:
            if worker not in self.alive:
                self.register(worker, True)
        for _ in range(1000):
            if not self.posted:
                break
            self.report(self.posted.pop(0), "good")
        assert not self.posted
        assert not self.live

    def replay(self) -> None:
        core = self.new_core()
        for event, now, decisions in self.history:
            assert (core.tick(now) if event is None else core.handle(event, now)) == decisions


class CoreMachineInOrder(CoreMachine):
    """Keeps workers in order although they are few, and looks at one only."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = [patch.object(pool, "FEW", 0), patch.object(pool, "LOOKED_AT", 1)]
        self._patches.append(patch.object(finish_index, "LOOKED_AT", 1))
        for each in self._patches:
            each.start()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            for each in self._patches:
                each.stop()


ALWAYS = settings(stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck))
TestCoreMachine = CoreMachine.TestCase
TestCoreMachine.settings = settings(ALWAYS, max_examples=120)
TestCoreMachineInOrder = CoreMachineInOrder.TestCase
TestCoreMachineInOrder.settings = settings(ALWAYS, max_examples=60)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 150), min_size=1, max_size=30),
    finishing=st.lists(st.integers(0, 10), min_size=60, max_size=60),
)
def test_no_request_overtakes_another_for_the_same_decoder_whatever_their_sizes(
    sizes: list[int], finishing: list[int]
) -> None:
    driver = Driver()
    driver.decoder("d0", slots=4, kv=100)
    order: list[str] = []
    running: list[str] = []

    def note(decisions: list[Decision]) -> None:
        started = [one.request for one in decisions if isinstance(one, Decode)]
        order.extend(started)
        running.extend(started)

    for number, size in enumerate(sizes):
        note(driver.submit(f"r{number}", text=size, output=0))
        if running and finishing[number] < 3:
            note(driver.decoded(running.pop(finishing[number] % len(running)), "d0"))
    for choice in finishing:
        if running:
            note(driver.decoded(running.pop(choice % len(running)), "d0"))
    assert order == [f"r{number}" for number in range(len(sizes))]
