"""Workers that come, fall silent, die and come back."""

import math

import pytest
from core_driver import Driver, decode, encode, register, rejected

from chiasm.messages import Heartbeat, Register, RejectReason, Unknown
from chiasm.nouns import Role, WorkerId
from scheduler.events import Refused


def split(*encoders: str, **config: float) -> Driver:
    driver = Driver(**config)
    driver.decoder("d0", slots=4)
    for name in encoders:
        driver.encoder(name)
    return driver


def test_the_heartbeat_of_an_unknown_worker_is_answered() -> None:
    driver = split("e0")
    assert driver.do(Heartbeat(WorkerId("stranger"), 3)) == [Unknown(WorkerId("stranger"), 3)]
    assert driver.heartbeat("e0") == []


def test_a_worker_that_falls_silent_is_lost_and_one_that_does_not_is_kept() -> None:
    driver = split("e0", heartbeat_timeout_s=10.0)
    driver.tick(6.0)
    driver.heartbeat("e0")
    driver.tick(6.0)
    assert [one.worker for one in driver.status.workers] == ["e0"]
    assert driver.heartbeat("d0") == [Unknown(WorkerId("d0"))]
    assert driver.count("workers_lost") == 1


def test_an_elder_that_is_alive_hides_no_younger_one_that_is_silent() -> None:
    driver = split("e0", heartbeat_timeout_s=10.0)
    driver.tick(6.0)
    driver.heartbeat("d0")
    driver.tick(6.0)
    assert [one.worker for one in driver.status.workers] == ["d0"]


def test_silence_is_not_measured_by_a_clock_that_jumps_back() -> None:
    driver = split("e0", heartbeat_timeout_s=10.0)
    driver.tick(-100.0)
    driver.heartbeat("e0")
    driver.tick(9.0)
    assert len(driver.status.workers) == 2
    driver.tick(1.0)
    assert not driver.status.workers


def test_what_a_lost_encoder_ran_and_queued_goes_elsewhere_at_once() -> None:
    driver = split("e0", "e1")
    driver.submit("x", "big", tokens=10_000)  # keeps e0 busy, so that the rest queues at e1
    driver.submit("r", "a", "b")
    assert driver.lost("e1") == []
    decisions = driver.encoded("x", "e0", "big")
    assert encode("r", "a", "e0") in decisions
    assert encode("r", "b", "e0") in driver.encoded("r", "e0", "a")


def test_the_report_that_follows_a_loss_is_not_counted_twice() -> None:
    driver = split("e0", "e1", max_attempts=2)
    driver.submit("r", "a")
    assert driver.lost("e0") == [encode("r", "a", "e1")]
    assert driver.encode_failed("r", "e0", "a") == []
    assert driver.encoded("r", "e1", "a") == [decode("r", "d0", ("a", "e1"))]


def test_the_report_that_follows_a_loss_is_told_from_one_about_the_new_engine() -> None:
    driver = split("e0", max_attempts=3)
    driver.submit("r", "a")
    assert driver.encoder("e0") == [encode("r", "a", "e0")]  # a new engine under the same name
    assert driver.encode_failed("r", "e0", "a") == []
    assert driver.running("e0") == 1
    assert driver.encode_failed("r", "e0", "a") == [encode("r", "a", "e0")]


def test_a_result_from_the_engine_before_is_ignored() -> None:
    driver = split("e0")
    driver.submit("r", "a")
    driver.encoder("e0")
    assert driver.encoded("r", "e0", "a") == []
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"))]


def test_an_item_that_kills_its_encoders_is_given_up() -> None:
    driver = split("e0", "e1", "e2", max_attempts=2)
    driver.submit("r", "a")
    driver.lost("e0")
    assert rejected(driver.lost("e1")) == [("r", RejectReason.ATTEMPTS)]


def test_waiting_in_the_queue_of_a_lost_encoder_is_no_attempt() -> None:
    driver = split("e0", max_attempts=1)
    driver.submit("r", "a")
    driver.submit("s", "b")
    assert rejected(driver.lost("e0")) == [("r", RejectReason.ATTEMPTS)]
    assert driver.encoder("e0") == [encode("s", "b", "e0")]


def test_embeddings_of_a_lost_encoder_are_encoded_again_for_those_that_wait() -> None:
    driver = split("e0", "e1")
    driver.submit("r", "a", "b")
    driver.encoded("r", "e0", "a")
    assert driver.lost("e0") == []  # e1 is busy
    assert driver.encoded("r", "e1", "b") == [encode("r", "a", "e1")]
    assert driver.encoded("r", "e1", "a") == [decode("r", "d0", ("a", "e1"), ("b", "e1"))]


def test_a_worker_that_registers_again_holds_nothing() -> None:
    driver = split("e0")
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a")
    driver.encoder("e0")
    assert driver.submit("s", "a") == [encode("s", "a", "e0")]


def test_an_encoder_that_is_added_shares_the_backlog() -> None:
    driver = split("e0")
    driver.submit("r", "a", "b", "c")
    assert driver.encoder("e1") == [encode("r", "b", "e1")]
    assert driver.encoded("r", "e1", "b") == []
    assert driver.encoded("r", "e0", "a") == [encode("r", "c", "e0")]


def test_the_results_of_a_lost_encoder_are_ignored() -> None:
    driver = split("e0")
    driver.submit("r", "a")
    driver.cancel("r")
    driver.lost("e0")
    assert driver.encoded("r", "e0", "a") == []
    driver.encoder("e0")
    assert driver.submit("s", "a") == [encode("s", "a", "e0")]


def test_a_request_on_a_lost_decoder_waits_for_its_gateway_to_report() -> None:
    driver = split("e0")
    driver.submit("r")
    assert driver.lost("d0") == []
    assert driver.decoder("d1") == []
    assert driver.decode_failed("r", "d0") == [decode("r", "d1")]


def test_a_decoder_that_was_only_thought_lost_may_still_answer() -> None:
    driver = split("e0")
    driver.submit("r")
    driver.decoder("d0")
    driver.submit("s")
    assert driver.decoded("r", "d0") == []
    assert (driver.count("done"), driver.running("d0")) == (1, 1)


def test_a_report_about_the_decoder_before_frees_nothing_of_the_new_one() -> None:
    driver = Driver()
    driver.decoder("d0")
    driver.submit("r")
    driver.decoder("d0")
    driver.submit("s")
    assert driver.decode_failed("r", "d0") == []
    assert driver.running("d0") == 1
    assert driver.decoded("s", "d0") == [decode("r", "d0")]


def test_a_gateway_that_never_reports_is_bounded_by_the_deadline() -> None:
    driver = Driver(heartbeat_timeout_s=1e6, queue_limit=1)
    driver.decoder("d0")
    driver.submit("r", deadline=30.0)
    driver.lost("d0")
    assert rejected(driver.submit("s")) == [("s", RejectReason.QUEUE_FULL)]
    assert rejected(driver.tick(30.0)) == [("r", RejectReason.DEADLINE)]
    assert driver.submit("s") == []


def test_a_worker_may_come_back_in_another_role() -> None:
    driver = split("e0")
    driver.decoder("e0", role=Role.TEXT)
    assert [(one.worker, one.role) for one in driver.status.workers] == [("d0", Role.DECODER), ("e0", Role.TEXT)]


@pytest.mark.parametrize(
    "bad",
    [
        register("e0", Role.ENCODER, protocol=99),
        register("e0", Role.ENCODER, slots=0),
        register("e0", Role.ENCODER, rate=0.0),
        register("e0", Role.ENCODER, rate=math.nan),
        register("e0", Role.DECODER, kv=0),
    ],
)
def test_a_registration_that_cannot_be_used_is_refused_by_name(bad: Register) -> None:
    driver = split("e0")
    (refused,) = driver.do(bad)
    assert isinstance(refused, Refused)
    assert refused.sender == "e0"
    assert [one.worker for one in driver.status.workers] == ["d0"]  # whatever comes, the engine before is gone
    assert driver.heartbeat("e0") == [Unknown(WorkerId("e0"))]


def test_losing_a_worker_that_is_not_there_is_no_event() -> None:
    driver = split("e0")
    driver.lost("e0")
    driver.lost("e0")
    driver.lost("stranger")
    assert driver.evicted("e0", "key-a") == []
    assert driver.count("workers_lost") == 1


def test_an_unreachable_encoder_is_given_nothing_until_it_is_heard_of_again() -> None:
    driver = split("e0")
    driver.submit("r", "a")
    assert driver.encode_failed("r", "e0", "a", unreachable=True) == []  # else it would use up all attempts at once
    assert driver.heartbeat("e0") == [Unknown(WorkerId("e0"))]
    assert driver.encoder("e0") == [encode("r", "a", "e0")]
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"))]


def test_what_else_ran_at_an_unreachable_encoder_goes_elsewhere() -> None:
    driver = split("e0", "e1")
    driver.submit("x", "big", tokens=10_000)
    driver.submit("r", "a")
    assert driver.encode_failed("r", "e1", "a", unreachable=True) == []
    assert encode("r", "a", "e0") in driver.encoded("x", "e0", "big")


def test_an_unreachable_decoder_is_given_nothing_until_it_is_heard_of_again() -> None:
    driver = split()
    driver.submit("r")
    assert driver.decode_failed("r", "d0", unreachable=True) == []
    assert driver.heartbeat("d0") == [Unknown(WorkerId("d0"))]
    assert driver.decoder("d0") == [decode("r", "d0")]


def test_what_an_engine_that_is_lost_still_reports_says_nothing_of_the_one_that_was_started_since() -> None:
    driver = Driver()
    driver.decoder("d0", slots=3)
    for number in range(3):
        driver.submit(f"r{number}")
    driver.decoder("d0", slots=3)
    for number in range(3):
        assert driver.decode_failed(f"r{number}", "d0", unreachable=True) == [decode(f"r{number}", "d0")]
    assert driver.count("workers_lost") == 1
    driver.decode_failed("r0", "d0", unreachable=True)
    assert driver.count("workers_lost") == 2


def test_a_rate_is_assumed_until_an_engine_has_answered_something() -> None:
    driver = split("e0")

    def measured() -> dict[str, bool]:
        return {worker.worker: worker.measured for worker in driver.status.workers}

    assert measured() == {"e0": False, "d0": False}
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a", seconds=0.5)
    assert measured() == {"e0": True, "d0": False}
    driver.decoded("r", "d0", seconds=0.5)
    assert measured() == {"e0": True, "d0": True}
    driver.decoder("d0")  # its engine is started anew
    assert measured() == {"e0": True, "d0": False}
