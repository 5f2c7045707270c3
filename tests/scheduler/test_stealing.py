"""Idle encoders take queued text, and images go first."""

import pytest
from core_driver import Driver, decode, encode, placed
from thief_driver import PAUSE, RESUME, cluster, return_of, with_thief

from chiasm.nouns import Role
from scheduler.stealing import FIRST_PATIENCE, LONGEST_PATIENCE_S, TRIED_AGAIN_S, Mode


def test_an_idle_encoder_takes_text_that_would_wait() -> None:
    driver = with_thief()
    assert driver.submit("text", output=50, stealable=True) == [decode("text", "t0", role=Role.TEXT)]
    assert driver.count("stolen") == 1


@pytest.mark.parametrize("stealing", ["off", "yield", "share"])
def test_stealing_can_be_turned_off(stealing: Mode) -> None:
    driver = with_thief(stealing=stealing)
    assert placed(driver.submit("text", output=50, stealable=True)) == ([] if stealing == "off" else ["t0"])


def test_what_waited_behind_a_stolen_request_is_handed_out_at_once() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=3, kv=100)
    driver.submit("running", text=50, output=10, deadline=1e6)
    driver.submit("large", text=10, output=60, deadline=1e6, stealable=True)
    assert driver.submit("small", text=5, output=5, deadline=1e6) == []
    assert driver.thief("t0", "e0") == [decode("large", "t0", role=Role.TEXT), decode("small", "d0")]


def test_an_image_that_cannot_be_encoded_yet_holds_no_thief() -> None:
    driver = Driver()
    driver.encoder("e0", store=100)
    driver.decoder("d0", slots=1, kv=10_000)
    driver.submit("running", output=500, deadline=1e6)
    driver.submit("first", "a")
    driver.encoded("first", "e0", "a", nbytes=90)  # which waits for d0 and fills the store
    driver.thief("t0", "e0")
    assert driver.submit("text", output=50, stealable=True) == []
    assert placed(driver.tick(3.0)) == ["t0"]
    assert driver.submit("second", "b") == []
    assert driver.decoded("running", "d0") == [decode("first", "d0", ("a", "e0")), encode("second", "b", "e0"), PAUSE]


def test_what_may_not_be_stolen_waits() -> None:
    driver = with_thief()
    assert driver.submit("text", output=50) == []
    assert placed(driver.submit("image", "a", output=50, stealable=True)) == ["e0"]


def test_a_request_that_was_started_once_is_not_stolen() -> None:
    driver = with_thief()
    driver.cancel("running")
    driver.submit("text", output=50, stealable=True)
    assert driver.running("d0") == 1
    driver.submit("next", output=50)
    assert driver.decode_failed("text", "d0", retryable=True) == [decode("text", "d0")]
    driver.decoder("d1")  # takes "next"
    assert driver.count("stolen") == 0


def test_it_must_pay() -> None:
    driver = cluster()
    driver.thief("t0", "e0", rate=2.0)  # half a second for a token; d0's queue is over in 5 s
    assert driver.submit("long", output=50, stealable=True) == []
    assert driver.submit("short", output=5, stealable=True) == [decode("short", "t0", role=Role.TEXT)]


def test_what_does_not_wait_for_a_decoder_is_no_wait_for_one() -> None:
    driver = cluster()
    driver.encoder("e1", rate=1.0)
    driver.submit("image", "a", tokens=10_000, output=10_000, deadline=1e6)  # which e0 encodes for a while
    driver.thief("t1", "e1", rate=2.0)
    assert driver.submit("long", output=50, stealable=True) == []  # d0's queue is over in 5 s, and t1 takes 25 s


def test_what_thieves_hold_is_no_wait_for_a_decoder() -> None:
    driver = cluster()
    driver.thief("t0", "e0", rate=1000.0, kv=10_000, slots=1)
    assert placed(driver.submit("taken", output=5000, stealable=True)) == ["t0"]
    driver.encoder("e1")
    driver.thief("t1", "e1", rate=2.0)
    assert driver.submit("long", output=50, stealable=True) == []


def test_a_thief_that_would_break_the_objective_takes_nothing() -> None:
    driver = cluster()
    driver.thief("t0", "e0", rate=0.9)
    assert driver.submit("text", output=1, stealable=True) == []


def test_a_thief_with_a_bad_name_is_tried_again() -> None:
    driver = cluster(heartbeat_timeout_s=1e6)
    driver.thief("t0", "e0", rate=1.1)
    for index in range(3):  # a token each, after long prompts
        driver.submit(f"short-{index}", output=1, stealable=True, deadline=1e6)
        driver.decoded(f"short-{index}", "t0", output=1, seconds=30.0)
    assert driver.submit("text", output=1, stealable=True, deadline=1e6) == []
    assert driver.tick(TRIED_AGAIN_S / 2) == []
    assert driver.status.workers[-1].measured
    assert placed(driver.tick(TRIED_AGAIN_S / 2)) == ["t0"]
    assert not driver.status.workers[-1].measured


def test_the_one_that_gains_most_is_taken_and_the_oldest_on_a_tie() -> None:
    driver = cluster()
    for name, output in (("long", 90), ("older", 20), ("younger", 20)):
        driver.submit(name, output=output, stealable=True)
    assert driver.thief("t0", "e0", rate=40.0, slots=1) == [decode("older", "t0", role=Role.TEXT)]


def test_a_thief_holds_no_more_than_its_share() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=6, kv=10_000, rate=300.0)
    for index in range(6):
        driver.submit(f"running-{index}", output=500)
    for index in range(9):
        driver.submit(f"text-{index}", output=10, stealable=True)
    assert placed(driver.thief("t0", "e0", slots=9, rate=100.0)) == ["t0", "t0"]  # 6 in flight, a third as fast


def test_the_image_goes_first_and_the_thief_goes_on_when_it_is_encoded() -> None:
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    assert driver.submit("image", "a", tokens=10) == [encode("image", "a", "e0"), PAUSE]
    assert driver.encoded("image", "e0", "a", tokens=10, seconds=0.1) == [RESUME]
    assert driver.count("paused") == 1


def test_sharing_encoders_do_not_pause() -> None:
    driver = with_thief(stealing="share")
    driver.submit("text", output=50, stealable=True)
    assert driver.submit("image", "a", tokens=10) == [encode("image", "a", "e0")]
    assert driver.submit("more", output=50, stealable=True) == []  # but they stop stealing
    assert driver.encoded("image", "e0", "a", tokens=10, seconds=0.1) == []


def waited_for(driver: Driver) -> float:
    """Seconds until the thief steals."""
    waited = 0.0
    while not placed(driver.tick(0.1)):
        waited += 0.1
        assert waited < LONGEST_PATIENCE_S
    return waited


def test_patience_grows_with_each_preemption_and_is_forgotten_in_some_encodes() -> None:
    driver = with_thief(heartbeat_timeout_s=1e6)
    waits = []
    for index in range(3):
        assert placed(driver.submit(f"text-{index}", output=50, stealable=True)) == ["t0"]
        driver.submit(f"image-{index}", f"a-{index}", tokens=10)
        driver.encoded(f"image-{index}", "e0", f"a-{index}", tokens=10, seconds=1.0)
        driver.decoded(f"text-{index}", "t0")
        assert driver.submit(f"waits-{index}", output=50, stealable=True) == []
        waits.append(waited_for(driver))
        driver.decoded(f"waits-{index}", "t0")
    assert waits[0] == pytest.approx(FIRST_PATIENCE, abs=0.25)
    assert waits[2] > 1.2 * waits[1] > 1.4 * waits[0]
    driver.tick(15.0)
    driver.submit("image", "a", tokens=10)  # which interrupts nothing
    driver.encoded("image", "e0", "a", tokens=10, seconds=1.0)
    assert driver.submit("text", output=50, stealable=True) == []
    assert waited_for(driver) == pytest.approx(FIRST_PATIENCE, abs=0.25)


def test_how_busy_an_encoder_was_is_forgotten_with_time_and_not_only_when_the_next_image_comes() -> None:
    driver = with_thief(heartbeat_timeout_s=1e6)
    driver.submit("image", "a", tokens=10)
    driver.tick(180.0)
    driver.encoded("image", "e0", "a", tokens=10, seconds=0.1)
    driver.tick(5.0)  # its patience is over, but an image may come any time
    assert driver.submit("text", output=1000, stealable=True, deadline=1e6) == []
    assert placed(driver.tick(600.0)) == ["t0"]


def test_a_thief_is_as_fast_as_it_is_while_it_is_not_held() -> None:
    driver = with_thief(heartbeat_timeout_s=1e6)
    for index in range(12):
        assert placed(driver.submit(f"text-{index}", output=50, stealable=True, deadline=1e6)) == ["t0"]
        driver.submit(f"image-{index}", "a" * (index + 1), tokens=10)
        driver.tick(9.5)
        driver.encoded(f"image-{index}", "e0", "a" * (index + 1), tokens=10, seconds=0.1)
        driver.decoded(f"text-{index}", "t0", output=50, seconds=10.0)  # half a second of work, and the pause
        driver.tick(LONGEST_PATIENCE_S)
    [rate] = [one.tokens_per_s for one in driver.status.workers if one.worker == "t0"]
    assert rate == pytest.approx(100.0)


def test_a_thief_that_is_never_held_does_not_pay_for_pauses() -> None:
    driver = with_thief(stealing="share", heartbeat_timeout_s=1e6)
    driver.submit("image", "a", tokens=10)
    driver.tick(180.0)
    driver.encoded("image", "e0", "a", tokens=10, seconds=0.1)
    driver.tick(5.0)
    assert placed(driver.submit("text", output=1000, stealable=True, deadline=1e6)) == ["t0"]


def test_an_encoder_that_is_lost_holds_its_thief_no_longer() -> None:
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    driver.submit("image", "a", tokens=10)
    assert driver.lost("e0") == [RESUME]


def test_the_image_goes_first_also_when_the_thief_was_given_up_meanwhile() -> None:
    """Its engine lives, and still runs what it had stolen."""
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    driver.thief("t0", "e0")
    assert driver.submit("image", "a", tokens=700) == [encode("image", "a", "e0"), PAUSE, return_of("text")]
    driver.returned("text", "t0", 20)
    driver.encoded("image", "e0", "a", tokens=700, seconds=0.1)
    assert driver.submit("another", "b", tokens=10) == [encode("another", "b", "e0")]


def test_a_thief_that_registers_while_an_image_is_encoded_is_held_if_it_may_run_something() -> None:
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    driver.submit("image", "a", tokens=10)
    assert PAUSE in driver.thief("t0", "e0")
    assert driver.encoded("image", "e0", "a", tokens=10, seconds=0.1) == [RESUME]


def test_a_thief_steals_on_after_what_it_held_before_it_was_given_up_has_come_back() -> None:
    driver = with_thief(heartbeat_timeout_s=1e6)
    driver.submit("text", output=50, stealable=True, deadline=1e6)
    driver.thief("t0", "e0")
    driver.submit("image", "a", tokens=700)
    driver.encoded("image", "e0", "a", tokens=700, seconds=0.1)
    driver.returned("text", "t0", 5)
    assert driver.submit("next", output=50, stealable=True, deadline=1e6) == []
    assert placed(driver.tick(LONGEST_PATIENCE_S)) == ["t0"]


@pytest.mark.parametrize("output", [0, 10])
def test_while_only_thieves_live_they_take_text_in_its_turn(output: int) -> None:
    driver = Driver(heartbeat_timeout_s=1e6)
    driver.encoder("e0")
    driver.decoder("d0")
    driver.submit("started", output=output, deadline=1e6)
    driver.submit("not stealable", output=output, deadline=1e6)
    driver.lost("d0")
    driver.decode_failed("started", "d0")
    names = [f"text-{number:02}" for number in range(20)]
    for name in names:
        driver.submit(name, output=output, stealable=True, deadline=1e6)
    assert driver.thief("t0", "e0", slots=1) == [decode(names[0], "t0", role=Role.TEXT)]
    for number in range(1, len(names)):
        driver.submit(f"later-{number}", output=output, stealable=True, deadline=1e6)
        assert driver.decoded(names[number - 1], "t0") == [decode(names[number], "t0", role=Role.TEXT)]


def test_the_status_tells_what_decides_about_a_thief() -> None:
    driver = with_thief()
    [idle] = driver.status.thieves
    assert (idle.worker, idle.held, idle.encoder_busy_share, idle.patience_s, idle.at_most) == ("t0", False, 0, 0, 1)
    driver.submit("text", output=50, stealable=True)
    driver.submit("image", "a", deadline=1e6)
    assert [thief.held for thief in driver.status.thieves] == [True]
    driver.now += 2.0
    driver.encoded("image", "e0", "a", seconds=2.0)
    [after] = driver.status.thieves
    assert not after.held
    assert 0 < after.encoder_busy_share < 0.1  # two seconds of the last minute
    assert after.patience_s > FIRST_PATIENCE * 2.0 - 0.001
