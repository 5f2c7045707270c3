"""Which request goes to which decoder and when, and what becomes of a decode that fails."""

import pytest
from core_driver import Driver, decode, encode, placed, rejected

from chiasm.messages import RejectReason
from chiasm.nouns import Role


def test_requests_are_handed_out_in_order_of_arrival_though_encoded_out_of_order() -> None:
    driver = Driver()
    driver.encoder("e0", slots=2)
    driver.decoder("d0")
    driver.submit("first", "a")
    driver.submit("second", "b")
    driver.submit("runs")
    driver.encoded("second", "e0", "b")
    driver.encoded("first", "e0", "a")
    assert driver.decoded("runs", "d0") == [decode("first", "d0", ("a", "e0"))]


def test_a_decoder_gets_no_more_than_its_credits() -> None:
    driver = Driver(look_ahead=2)
    driver.decoder("d0", slots=8)
    issued = [driver.submit(name) for name in "abcdefghij"]
    assert issued == [[decode(name, "d0")] for name in "abcdefghi"] + [[]]


def test_a_decoder_of_few_slots_gets_nothing_beyond_them() -> None:
    driver = Driver(look_ahead=2)
    driver.decoder("d0", slots=7)
    issued = [driver.submit(name) for name in "abcdefgh"]
    assert issued == [[decode(name, "d0")] for name in "abcdefg"] + [[]]


def test_the_head_of_the_queue_is_not_overtaken_by_a_request_that_would_fit() -> None:
    driver = Driver()
    driver.decoder("d0", slots=8, kv=1000)
    driver.submit("runs", text=600, output=0)
    assert driver.submit("big", text=500, output=0) == []
    assert driver.submit("small", text=1, output=0) == []
    assert driver.decoded("runs", "d0") == [decode("big", "d0"), decode("small", "d0")]


def test_when_the_head_of_the_queue_leaves_the_next_has_its_turn() -> None:
    driver = Driver()
    driver.decoder("d0", slots=8, kv=1000)
    driver.submit("runs", text=600, output=0)
    driver.submit("big", text=500, output=0)
    driver.submit("small", text=1, output=0)
    assert driver.cancel("big") == [decode("small", "d0")]


def test_a_request_larger_than_any_cache_gets_an_empty_decoder() -> None:
    driver = Driver()
    driver.decoder("d0", slots=8, kv=100)
    driver.submit("small", text=1, output=0)
    assert driver.submit("giant", text=10**9) == []
    assert driver.decoded("small", "d0") == [decode("giant", "d0")]


def test_kv_tokens_are_booked_by_the_real_size_of_every_occurrence() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=8, kv=1000)
    driver.submit("r", "a", "a", tokens=1, text=100, output=100)
    driver.encoded("r", "e0", "a", tokens=300)
    assert driver.submit("fits not", text=201, output=0) == []
    driver.cancel("fits not")
    assert driver.submit("fits", text=200, output=0) == [decode("fits", "d0")]


def test_the_least_predicted_finish_wins_by_measured_rate() -> None:
    driver = Driver()
    driver.decoder("slow", slots=9, rate=100.0)
    driver.decoder("fast", slots=9, rate=300.0)
    decisions = [one for name in "abcd" for one in driver.submit(name, output=60)]
    assert placed(decisions) == ["fast", "fast", "slow", "fast"]  # a tie goes to who came first


def test_a_decoder_is_measured_by_its_whole_batch() -> None:
    driver = Driver()
    driver.decoder("d0", slots=4, rate=100.0)
    for name in "abcd":
        driver.submit(name)
    driver.decoded("d", "d0", output=50, seconds=1.0)  # four streams at 50/s
    assert driver.status.workers[0].tokens_per_s == pytest.approx(0.8 * 100 + 0.2 * 200)


def test_images_need_a_decoder_while_text_may_go_anywhere() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0")
    driver.decoder("t0", role=Role.TEXT)
    driver.submit("image", "a")
    driver.encoded("image", "e0", "a")
    driver.submit("other", "a")
    assert driver.submit("text") == [decode("text", "t0", role=Role.TEXT)]
    assert driver.submit("more text") == []
    assert driver.decoded("text", "t0") == [decode("more text", "t0", role=Role.TEXT)]


def test_a_blocked_image_keeps_younger_text_off_the_decoders() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=8, kv=1000)
    driver.submit("runs", text=600)
    driver.submit("image", "a", text=500)
    driver.encoded("image", "e0", "a")
    assert driver.submit("text") == []
    assert driver.decoded("runs", "d0") == [decode("image", "d0", ("a", "e0")), decode("text", "d0")]


def test_without_a_decoder_an_image_goes_unsplit() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("w0", role=Role.WHOLE)
    assert driver.submit("r", "a") == [decode("r", "w0", role=Role.WHOLE)]
    assert driver.count("encodes") == 0


def test_an_encoded_image_goes_unsplit_when_the_decoders_have_died() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0")
    driver.submit("r", "a")
    driver.lost("d0")
    driver.encoded("r", "e0", "a")
    assert driver.decoder("w0", role=Role.WHOLE) == [decode("r", "w0", role=Role.WHOLE)]


def test_a_whole_worker_says_nothing_about_embeddings_it_was_not_given() -> None:
    driver = Driver(max_attempts=1)
    driver.encoder("e0")
    driver.decoder("d0")
    driver.submit("r", "a")
    driver.lost("d0")
    driver.encoded("r", "e0", "a")
    driver.decoder("w0", role=Role.WHOLE)
    driver.decode_failed("r", "w0", "a")
    driver.decoder("d0")
    assert driver.submit("s", "a") == [decode("s", "d0", ("a", "e0"))]


def test_an_image_that_waits_for_a_dead_encoder_goes_unsplit() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0")
    driver.submit("r", "a")
    driver.lost("e0")
    assert driver.decoder("w0", role=Role.WHOLE) == [decode("r", "w0", role=Role.WHOLE)]


def test_an_image_that_waits_unsplit_is_encoded_once_that_can_be_done() -> None:
    driver = Driver()
    driver.decoder("w0", role=Role.WHOLE)
    driver.submit("runs")
    driver.submit("r", "a")
    driver.encoder("e0")
    assert driver.decoder("d0") == [encode("r", "a", "e0")]
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"))]


def two_decoders(**config: float) -> Driver:
    driver = Driver(**config)
    driver.encoder("e0")
    driver.decoder("d0")
    driver.decoder("d1")
    return driver


def test_a_failed_decode_is_tried_again_elsewhere() -> None:
    driver = two_decoders()
    driver.submit("r")
    assert driver.decode_failed("r", "d0") == [decode("r", "d1")]
    assert (driver.count("decode_retries"), driver.running("d0")) == (1, 0)


def test_a_failed_decode_waits_for_a_busy_decoder_rather_than_fail_again() -> None:
    driver = two_decoders()
    driver.submit("r")
    driver.submit("other")
    assert driver.decode_failed("r", "d0") == []
    assert driver.decoded("other", "d1") == [decode("r", "d1")]


def test_decode_attempts_are_bounded() -> None:
    driver = two_decoders(max_attempts=2)
    driver.submit("r")
    driver.decode_failed("r", "d0")
    assert rejected(driver.decode_failed("r", "d1")) == [("r", RejectReason.ATTEMPTS)]
    assert driver.status.decoding == 0


def test_a_failure_that_a_retry_cannot_mend_ends_the_request() -> None:
    driver = two_decoders()
    driver.submit("r")
    assert rejected(driver.decode_failed("r", "d0", retryable=False)) == [("r", RejectReason.DECODE)]


def test_an_embedding_the_decoder_could_not_fetch_is_encoded_again() -> None:
    driver = two_decoders()
    driver.submit("r", "a", "b")
    driver.encoded("r", "e0", "a")
    driver.encoded("r", "e0", "b")
    assert driver.decode_failed("r", "d0", "a", "a", "unheard of") == [encode("r", "a", "e0")]
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"), ("b", "e0"))]
    assert (driver.count("transfers_failed"), driver.count("reencodes")) == (1, 1)


def test_a_transfer_that_fails_for_good_is_counted() -> None:
    driver = two_decoders()
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a")
    assert rejected(driver.decode_failed("r", "d0", "a", retryable=False)) == [("r", RejectReason.DECODE)]
    assert (driver.count("transfers_failed"), driver.count("reencodes")) == (1, 0)


def test_others_that_count_on_a_lost_embedding_are_told() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0")
    driver.submit("r", "a")
    driver.submit("s", "a")
    driver.encoded("r", "e0", "a")
    assert driver.decode_failed("r", "d0", "a") == [encode("s", "a", "e0")]
    assert driver.count("reencodes") == 1  # for both
    assert driver.encoded("s", "e0", "a") == [decode("r", "d0", ("a", "e0"))]


def test_an_embedding_replaced_meanwhile_is_not_dropped() -> None:
    driver = two_decoders()
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a")
    driver.evicted("e0", "key-a")
    driver.submit("s", "a")
    driver.encoded("s", "e0", "a")
    assert driver.decode_failed("r", "d0", "a") == [decode("r", "d0", ("a", "e0"))]


@pytest.mark.parametrize("worker", ["d1", "d9", "e0"])
def test_reports_from_elsewhere_are_ignored(worker: str) -> None:
    driver = two_decoders()
    driver.submit("r")
    assert driver.decoded("r", worker) == []
    assert driver.decode_failed("r", worker) == []
    assert (driver.status.decoding, driver.count("stale")) == (1, 2)
