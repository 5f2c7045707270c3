"""Submit, the bounds, and the ends of a request."""

import math

import msgspec
import pytest
from core_driver import Driver, decode, encode, register, rejected

from chiasm.messages import AskStatus, Reject, RejectReason, Status
from chiasm.nouns import RequestId, Role
from scheduler.events import Refused


def a_split(**config: float) -> Driver:
    driver = Driver(**config)
    driver.encoder("e0")
    driver.decoder("d0")
    return driver


def test_an_image_request_goes_its_whole_way() -> None:
    driver = a_split()
    assert driver.submit("r", "a") == [encode("r", "a", "e0")]
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"))]
    assert driver.decoded("r", "d0") == []
    assert (driver.count("submitted"), driver.count("done"), driver.running("d0")) == (1, 1, 0)


def test_a_text_request_skips_the_encoders() -> None:
    assert a_split().submit("r") == [decode("r", "d0")]


def test_an_item_that_stands_twice_is_encoded_once_and_sent_once() -> None:
    driver = a_split()
    assert driver.submit("r", "a", "a") == [encode("r", "a", "e0")]
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"))]


def test_embeddings_are_sent_in_prompt_order() -> None:
    driver = Driver()
    driver.encoder("e0", slots=2)
    driver.decoder("d0")
    driver.submit("r", "a", "b")
    driver.encoded("r", "e0", "b")
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"), ("b", "e0"))]


def test_a_second_submit_of_a_live_id_is_refused_and_leaves_the_first_alone() -> None:
    driver = a_split()
    driver.submit("r", "a")
    (refused,) = driver.submit("r")
    assert isinstance(refused, Refused)
    assert refused.sender == "r"
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"))]
    assert (driver.count("submitted"), driver.count("refused")) == (1, 1)


def test_an_id_may_come_again_once_it_has_ended() -> None:
    driver = a_split()
    driver.submit("r")
    driver.decoded("r", "d0")
    assert driver.submit("r") == [decode("r", "d0")]


def test_beyond_the_queue_limit_requests_are_sent_away_with_the_predicted_wait() -> None:
    driver = Driver(queue_limit=1)
    driver.decoder("d0", rate=10.0)
    driver.submit("runs", output=100)
    driver.submit("waits", output=130)
    (reject,) = driver.submit("r", output=1)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.retry_after_s) == (RejectReason.QUEUE_FULL, 23.0)
    driver.decoded("runs", "d0")
    assert driver.submit("again") == []


def test_the_predicted_wait_of_an_image_includes_the_encoders_and_is_never_below_a_second() -> None:
    driver = Driver(queue_limit=1)
    driver.encoder("e0", rate=10.0)
    driver.decoder("d0", rate=1e6)
    driver.submit("first", "a", tokens=200)
    waits = [one.retry_after_s for one in (*driver.submit("image", "b"), *driver.submit("text")) if type(one) is Reject]
    assert waits == [20.0, 1.0]


def test_the_predicted_wait_stays_sensible_when_every_worker_is_gone() -> None:
    driver = Driver(queue_limit=1)
    driver.decoder("d0")
    driver.lost("d0")
    driver.submit("first")
    (reject,) = driver.submit("r")
    assert isinstance(reject, Reject)
    assert reject.retry_after_s == 60.0


@pytest.mark.parametrize(("roles", "uuids"), [([], []), ([Role.ENCODER], []), ([Role.DECODER], ["a"])])
def test_without_a_worker_of_the_needed_role_a_request_is_rejected(roles: list[Role], uuids: list[str]) -> None:
    driver = Driver()
    for role in roles:
        driver.encoder("w") if role is Role.ENCODER else driver.decoder("w", role=role)
    driver.tick()
    driver.tick(driver.config.heartbeat_timeout_s)
    assert rejected(driver.submit("r", *uuids)) == [("r", RejectReason.NO_WORKER)]


def test_a_new_core_waits_until_all_that_live_have_heard_of_it() -> None:
    """It may have followed upon another one, whose requests may come before its workers."""
    driver = Driver(heartbeat_timeout_s=10.0)
    assert driver.submit("image", "a", deadline=600.0) == []
    assert driver.submit("text", deadline=600.0) == []
    driver.tick(9.0)
    assert driver.encoder("e0") == [encode("image", "a", "e0")]
    assert driver.decoder("d0") == [decode("text", "d0")]
    assert driver.tick(5.0) == []


def test_a_new_core_does_not_wait_longer_for_what_has_never_been() -> None:
    driver = Driver(heartbeat_timeout_s=10.0)
    driver.submit("image", "a", deadline=600.0)
    driver.submit("text", deadline=600.0)
    driver.decoder("d0")
    driver.tick(9.0)
    driver.heartbeat("d0")
    assert rejected(driver.tick(1.0)) == [("image", RejectReason.NO_WORKER)]
    assert driver.status.decoding == 1


def test_while_workers_restart_requests_wait_for_them() -> None:
    driver = a_split()
    driver.lost("e0")
    driver.lost("d0")
    assert driver.submit("image", "a") == []
    assert driver.submit("text") == []
    assert driver.decoder("d0") == [decode("text", "d0")]
    assert driver.encoder("e0") == [encode("image", "a", "e0")]


def test_requests_that_wait_for_workers_end_at_their_deadline() -> None:
    driver = a_split()
    driver.lost("e0")
    driver.submit("r", "a", deadline=5.0)
    assert rejected(driver.tick(4.9)) == []
    assert rejected(driver.tick(0.2)) == [("r", RejectReason.DEADLINE)]


@pytest.mark.parametrize("deadline", [0.0, -1.0, math.nan, math.inf])
def test_a_request_without_time_ends_at_once(deadline: float) -> None:
    driver = a_split()
    assert rejected(driver.submit("r", deadline=deadline)) == [("r", RejectReason.DEADLINE)]
    assert driver.running("d0") == 0


def test_a_deadline_passes_in_any_state_and_frees_what_was_held() -> None:
    driver = a_split(heartbeat_timeout_s=1e6)
    driver.submit("decoding", deadline=1.0)
    driver.submit("ready", deadline=2.0)
    driver.submit("encoding", "a", deadline=3.0)
    first = driver.tick(1.0)
    assert rejected(first) == [("decoding", RejectReason.DEADLINE)]
    assert decode("ready", "d0") in first
    assert rejected(driver.tick(1.0)) == [("ready", RejectReason.DEADLINE)]
    assert rejected(driver.tick(1.0)) == [("encoding", RejectReason.DEADLINE)]
    assert (driver.running("d0"), driver.running("e0"), driver.count("failed_deadline_exceeded")) == (0, 0, 3)


def test_reports_about_a_request_that_has_ended_change_nothing() -> None:
    driver = a_split()
    driver.submit("r", deadline=1.0)
    driver.tick(1.0)
    driver.submit("next")
    assert driver.decoded("r", "d0") == []
    assert driver.decode_failed("r", "d0") == []
    assert (driver.running("d0"), driver.count("done"), driver.count("stale")) == (1, 0, 2)


def test_a_cancel_is_silent_in_every_state_and_frees_what_was_held() -> None:
    driver = a_split()
    driver.submit("decoding")
    driver.submit("ready")
    driver.submit("encoding", "a")
    assert driver.cancel("ready") == []
    assert driver.cancel("encoding") == []
    assert driver.cancel("decoding") == []
    assert driver.cancel("decoding") == []
    assert (driver.running("d0"), driver.running("e0"), driver.count("cancelled")) == (0, 0, 3)


def test_a_clock_that_jumps_back_neither_fires_deadlines_nor_stops_them() -> None:
    driver = a_split(heartbeat_timeout_s=1e6)
    driver.submit("r", deadline=10.0)
    assert driver.tick(-500.0) == []
    assert driver.tick(9.0) == []
    assert rejected(driver.tick(1.0)) == [("r", RejectReason.DEADLINE)]


def test_status_counts_every_request_in_the_state_it_is_in() -> None:
    driver = a_split()
    driver.submit("decoding")
    driver.submit("withheld")
    driver.submit("encoding", "a")
    driver.submit("encoding too", "b")
    (status,) = driver.do(AskStatus(RequestId("ask")))
    assert isinstance(status, Status)
    assert (status.request, status.encoding, status.withheld, status.decoding) == ("ask", 2, 1, 1)
    e0, d0 = status.workers
    assert (e0.worker, e0.running, e0.waiting, e0.held) == ("e0", 1, 1, 0)
    assert (d0.worker, d0.running, d0.waiting, d0.tokens_per_s) == ("d0", 1, 0, 100.0)
    driver.encoded("encoding", "e0", "a")
    assert driver.status.workers[0].held == 1


def test_status_tells_who_took_a_fallback() -> None:
    driver = a_split()
    driver.do(msgspec.structs.replace(register("d1", Role.DECODER), fallback="no node could take it"))
    assert {one.worker: one.fallback for one in driver.status.workers} == {
        "e0": "",
        "d0": "",
        "d1": "no node could take it",
    }


def test_ready_means_that_images_and_text_could_be_placed() -> None:
    driver = Driver()
    driver.decoder("t0", role=Role.TEXT)
    driver.encoder("e0")
    assert not driver.status.ready
    driver.decoder("d0")
    assert driver.status.ready
    driver.lost("e0")
    assert not driver.status.ready
    driver.decoder("w0", role=Role.WHOLE)
    assert driver.status.ready
