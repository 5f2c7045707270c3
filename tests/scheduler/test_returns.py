"""What is stolen goes back, where a decoder takes it sooner than the pause ends."""

import pytest
from core_driver import Driver, decode, encode, placed
from thief_driver import PAUSE, RESUME, return_of, with_thief

from chiasm.messages import Return


def test_beyond_the_objective_what_is_stolen_returns_and_is_generated_to_its_end_elsewhere() -> None:
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    assert driver.submit("image", "a", tokens=700) == [encode("image", "a", "e0"), PAUSE, return_of("text")]
    assert driver.submit("image too", "b", tokens=700) == []  # it is asked once
    assert driver.returned("text", "t0", 20) == []
    assert driver.decoded("running", "d0", output=500) == [decode("text", "d0")]
    assert (driver.count("returned"), driver.status.counters["decode_retries"]) == (1, 0)
    driver.decoded("text", "d0", output=30)
    assert driver.count("done") == 2


def test_a_pause_that_grows_too_long_ends_in_a_return() -> None:
    driver = with_thief()
    driver.decoded("running", "d0", output=50, seconds=0.5)  # so long it held the only credit
    driver.submit("running too", output=500, deadline=1e6)
    driver.submit("text", output=50, stealable=True)
    assert driver.submit("image", "a", tokens=10) == [encode("image", "a", "e0"), PAUSE]
    assert driver.tick(0.5) == []
    assert driver.tick(0.6) == [return_of("text")]


def test_who_would_wait_longer_for_a_decoder_than_the_pause_lasts_stays() -> None:
    driver = with_thief()
    driver.decoded("running", "d0", seconds=3.0)  # so long it held the only credit
    driver.submit("running too", output=500, deadline=1e6)
    driver.submit("text", output=50, stealable=True)
    assert driver.submit("image", "a", tokens=200) == [encode("image", "a", "e0"), PAUSE]
    assert driver.tick(0.9) == []
    assert driver.tick(2.2) == [return_of("text")]  # the pause has taken longer than was foreseen


def test_before_any_answer_is_complete_what_decoders_owe_says_when_a_credit_will_be_free() -> None:
    driver = with_thief()  # whose decoder owes 500 tokens, and does 100 a second
    driver.submit("text", output=50, stealable=True)
    assert driver.submit("image", "a", tokens=200) == [encode("image", "a", "e0"), PAUSE]
    assert driver.tick(4.0) == []
    assert driver.tick(1.5) == [return_of("text")]


def answered_at_an_idle_decoder(streams: bool) -> Driver:
    """A thief has made 1,000 tokens of an answer of at most 1,100; the decoder has finished its own."""
    driver = Driver(heartbeat_timeout_s=1e6)
    driver.encoder("e0")
    driver.decoder("d0", slots=1, kv=10_000, rate=100.0)
    driver.submit("running", output=5000, deadline=1e6)
    driver.submit("text", text=10, output=1100, stealable=True, streams=streams, deadline=1e6)
    assert placed(driver.thief("t0", "e0", kv=10_000, rate=100.0)) == ["t0"]
    driver.tick(10.0)
    driver.decoded("running", "d0", output=1000, seconds=10.0)
    return driver


def test_an_answer_that_is_no_stream_stays_where_it_would_take_longer_to_generate_again() -> None:
    driver = answered_at_an_idle_decoder(streams=False)
    assert driver.submit("image", "a", tokens=200) == [encode("image", "a", "e0"), PAUSE]
    assert driver.tick(9.0) == []
    assert driver.tick(2.0) == [return_of("text")]  # by now it would be as far again


def test_a_stream_stays_where_it_would_take_longer_to_prefill_again() -> None:
    driver = answered_at_an_idle_decoder(streams=True)
    driver.submit("prompt", "b", tokens=490, output=10, streams=True, deadline=1e6)
    driver.encoded("prompt", "e0", "b", tokens=490, seconds=0.1)
    driver.begun("prompt", "d0", seconds=1.0)  # 500 tokens a second
    driver.decoded("prompt", "d0", output=10, seconds=1.1)
    assert driver.submit("image", "a", tokens=200) == [encode("image", "a", "e0"), PAUSE]
    assert driver.tick(1.9) == []
    assert driver.tick(0.2) == [return_of("text")]


def full_decoder(held_s: float, queued: int) -> Driver:
    """A decoder of six credits, each held for so long, in turn; a thief with six streams, and a queue of text."""
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=6, kv=10_000, rate=600.0)
    driver.submit("first", output=500)
    driver.decoded("first", "d0", seconds=held_s)
    for index in range(6):
        driver.submit(f"running-{index}", output=500, deadline=1e6)
        driver.tick(held_s / 6)
    for index in range(queued):
        driver.submit(f"queued-{index}", output=10, deadline=1e6)
    for index in range(6):
        driver.submit(f"text-{index}", output=10, stealable=True, deadline=1e6)
    assert placed(driver.thief("t0", "e0", slots=9, rate=600.0)) == ["t0"] * 6
    return driver


def test_as_many_return_as_decoders_have_room_for_sooner_than_the_pause_ends() -> None:
    driver = full_decoder(held_s=2.0, queued=0)
    # Of six credits that are held for two seconds, one becomes free every third of a second. The encode takes 1.5 s.
    asked = [encode("image", "a", "e0"), PAUSE, *(return_of(f"text-{index}") for index in range(4))]
    assert driver.submit("image", "a", tokens=150) == asked
    for index in range(4):
        driver.returned(f"text-{index}", "t0", 1)
    assert driver.tick(1.4) == []  # four wait for a credit; a fifth would have to wait behind them


def test_where_all_have_begun_at_once_nobody_returns_before_they_end() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=6, kv=10_000, rate=600.0)
    driver.submit("first", output=500)
    driver.decoded("first", "d0", seconds=2.0)
    for index in range(6):
        driver.submit(f"running-{index}", output=500, deadline=1e6)
    for index in range(2):
        driver.submit(f"text-{index}", output=10, stealable=True, deadline=1e6)
    assert placed(driver.thief("t0", "e0", slots=9, rate=600.0)) == ["t0"] * 2
    assert driver.submit("image", "a", tokens=150) == [encode("image", "a", "e0"), PAUSE]  # which takes 1.5 s
    assert driver.tick(1.1) == [return_of("text-0"), return_of("text-1")]  # as long as they still have to run


def test_short_answers_of_before_do_not_say_when_credits_held_for_long_will_be_free() -> None:
    driver = full_decoder(held_s=0.3, queued=0)  # after an answer of 0.3 s
    driver.tick(6.0)  # and none of those that run has ended
    assert driver.submit("image", "a", tokens=150) == [encode("image", "a", "e0"), PAUSE]  # which takes 1.5 s
    assert driver.tick(1.0) == []
    driver.decoded("running-5", "d0", output=500, seconds=7.0)  # now one is free
    assert driver.tick(0.1)[0] == return_of("text-0")


def test_what_returns_goes_on_before_all_that_waits() -> None:
    driver = full_decoder(held_s=2.0, queued=20)
    driver.submit("image", "a", tokens=150)
    driver.encoded("image", "e0", "a", tokens=150, seconds=1.5)
    for index in range(4):
        assert driver.returned(f"text-{index}", "t0", 1) == []
    for index in range(4):
        assert driver.decoded(f"running-{index}", "d0", output=500) == [decode(f"text-{index}", "d0")]


def test_a_credit_without_room_in_the_cache_is_none() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=100, kv=1000, rate=600.0)
    driver.submit("first", text=10, output=200)
    driver.decoded("first", "d0", seconds=20.0)
    for index in range(4):
        driver.submit(f"running-{index}", text=10, output=235, deadline=1e6)
    for index in range(4):
        driver.submit(f"text-{index}", text=10, output=200, stealable=True, deadline=1e6)
    assert placed(driver.thief("t0", "e0", slots=9, kv=10_000, rate=600.0)) == ["t0"] * 4
    assert driver.submit("image", "a", tokens=150) == [encode("image", "a", "e0"), PAUSE]


def test_what_fits_beside_a_large_one_that_waits_goes_back_at_once() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=4, kv=100, rate=600.0)
    driver.submit("first", text=10, output=10)
    driver.decoded("first", "d0", seconds=20.0)
    driver.submit("running", text=10, output=50, deadline=1e6)
    driver.submit("large", text=10, output=80, deadline=1e6)
    driver.submit("small", text=5, output=5, deadline=1e6, stealable=True)
    assert placed(driver.thief("t0", "e0", rate=600.0)) == ["t0"]
    assert driver.submit("image", "a", tokens=150) == [encode("image", "a", "e0"), PAUSE, return_of("small")]
    assert driver.returned("small", "t0", 1) == [decode("small", "d0")]


def test_an_idle_decoder_takes_back_as_many_as_it_has_credits() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=2, kv=10_000, rate=600.0)
    driver.submit("first", output=200)
    driver.decoded("first", "d0", seconds=20.0)
    driver.decoder("d1", slots=4, kv=10_000, rate=600.0)
    running = [f"running-{index}" for index in range(6)]
    for name in running:
        driver.submit(name, output=500, deadline=1e6)
    for index in range(3):
        driver.submit(f"text-{index}", output=10, stealable=True, deadline=1e6)
    assert placed(driver.thief("t0", "e0", slots=9, rate=600.0)) == ["t0"] * 3
    driver.lost("d1")
    for name in running:
        driver.cancel(name)
    asked = [encode("image", "a", "e0"), PAUSE, return_of("text-0"), return_of("text-1")]
    assert driver.submit("image", "a", tokens=150) == asked


def test_answers_that_were_none_teach_nothing_of_how_long_a_credit_is_held() -> None:
    driver = full_decoder(held_s=2.0, queued=0)
    for index in range(20):
        driver.submit(f"refused-{index}", output=10, deadline=1e6)
    driver.cancel("running-5")
    for index in range(20):
        driver.decoded(f"refused-{index}", "d0", output=0, seconds=0.005)
    driver.submit("running-5", output=500, deadline=1e6)
    returns = [one for one in driver.submit("image", "a", tokens=150) if isinstance(one, Return)]
    assert len(returns) == 4


def test_an_encode_that_takes_as_long_as_was_foreseen_keeps_what_is_stolen() -> None:
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    assert driver.submit("image", "a", tokens=80) == [encode("image", "a", "e0"), PAUSE]
    assert driver.tick(0.7) == []
    assert driver.encoded("image", "e0", "a", tokens=80, seconds=0.8) == [RESUME]


def test_who_has_finished_before_it_could_return_is_done() -> None:
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    driver.submit("image", "a", tokens=700)
    driver.decoded("text", "t0", output=50)
    assert driver.count("done") == 1
    driver.returned("text", "t0", 50)
    assert driver.count("stale") == 1


def test_a_return_that_nobody_asked_for_is_stale() -> None:
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    assert driver.returned("text", "t0", 10) == []
    assert (driver.count("stale"), driver.running("t0")) == (1, 1)


def test_what_a_lost_thief_held_is_generated_elsewhere() -> None:
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    driver.lost("t0")
    driver.cancel("running")
    assert driver.decode_failed("text", "t0", retryable=True) == [decode("text", "d0")]


@pytest.mark.parametrize("comes_back", [False, True])
def test_what_a_thief_gave_back_as_it_was_lost_is_generated_elsewhere(comes_back: bool) -> None:
    """Its gateway has stopped it, and has nothing else to report."""
    driver = with_thief()
    driver.submit("text", output=50, stealable=True)
    driver.submit("image", "a", tokens=700)
    driver.lost("t0")
    if comes_back:
        driver.thief("t0", "e0")
    driver.cancel("running")
    assert driver.returned("text", "t0", 20) == [decode("text", "d0")]
    assert driver.count("returned") == 1


def test_all_that_is_stolen_returns_in_the_order_in_which_it_was_taken() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=9, kv=10_000)
    for index in range(9):
        driver.submit(f"running-{index}", output=500)
    names = [f"text-{index}" for index in range(6)]
    for name in names:
        driver.submit(name, output=10, stealable=True)
    assert placed(driver.thief("t0", "e0", slots=9)) == ["t0"] * 6
    returns = [one.request for one in driver.submit("image", "a", tokens=6000) if isinstance(one, Return)]
    assert returns == names
