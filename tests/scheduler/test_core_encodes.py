"""Where items are encoded, who shares an encode, and what becomes of one that fails."""

import pytest
from core_driver import Driver, decode, encode, placed, rejected

from chiasm.messages import Encode, RejectReason, Submit
from chiasm.nouns import Item, ItemUuid, RequestId


def with_encoders(*names: str, slots: int = 1, **config: float) -> Driver:
    driver = Driver(**config)
    driver.decoder("d0", slots=8)
    for name in names:
        driver.encoder(name, slots=slots)
    return driver


def test_items_of_one_request_fan_out() -> None:
    driver = with_encoders("e0", "e1")
    assert driver.submit("r", "a", "b") == [encode("r", "a", "e0"), encode("r", "b", "e1")]


def test_the_least_predicted_finish_wins_by_measured_rate() -> None:
    driver = Driver()
    driver.decoder("d0")
    driver.encoder("slow", slots=4, rate=100.0)
    driver.encoder("fast", slots=4, rate=1000.0)
    decisions = driver.submit("r", *"abcd", tokens=300)
    assert placed(decisions) == ["fast"] * 4
    assert placed(driver.submit("s", "e", tokens=50)) == ["slow"]  # 0.5 s beats 1.25 s


def test_an_encoder_that_proves_slow_gets_less() -> None:
    driver = with_encoders("e0")
    for name in "abcdefgh":
        driver.submit(f"r-{name}", name)
        driver.encoded(f"r-{name}", "e0", name, seconds=100.0)
        driver.decoded(f"r-{name}", "d0")
    driver.encoder("e1")
    assert driver.submit("r", "x", "y") == [encode("r", "x", "e1")]  # the other waits behind it: still sooner done


def test_an_engine_gets_no_more_than_its_credits_and_the_rest_in_order() -> None:
    driver = with_encoders("e0", slots=1, look_ahead=1)
    assert driver.submit("r", *"abcd") == [encode("r", "a", "e0"), encode("r", "b", "e0")]
    assert driver.encoded("r", "e0", "b") == [encode("r", "c", "e0")]
    assert driver.encoded("r", "e0", "a") == [encode("r", "d", "e0")]


def test_an_engine_has_little_at_hand_behind_what_it_encodes() -> None:
    """It would encode what a later request brought in one step with the earlier one's second image."""
    driver = with_encoders(slots=1, look_ahead=3)
    driver.encoder("e0", rate=1000.0)
    assert driver.submit("r", "a", "b", tokens=100) == [encode("r", "a", "e0"), encode("r", "b", "e0")]
    assert driver.submit("s", "c", tokens=100) == []
    assert driver.encoded("r", "e0", "a") == [encode("s", "c", "e0")]


def test_an_engine_that_is_quick_has_as_much_at_hand_as_may_be() -> None:
    driver = with_encoders(slots=1, look_ahead=3)
    driver.encoder("e0", rate=100_000.0)
    assert driver.submit("r", *"abcde", tokens=100) == [encode("r", uuid, "e0") for uuid in "abcd"]


def test_an_item_that_is_held_is_not_encoded_again() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a")
    assert driver.submit("s", "a") == [decode("s", "d0", ("a", "e0"))]
    assert driver.count("encode_cached") == 1


def test_an_encode_under_way_is_shared_by_all_that_need_it() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    assert driver.submit("s", "a") == []
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0")), decode("s", "d0", ("a", "e0"))]
    assert (driver.count("encodes"), driver.count("encode_shared")) == (1, 1)


def test_a_shared_encode_outlives_the_request_that_carried_it() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    driver.submit("s", "a")
    assert driver.cancel("r") == [encode("s", "a", "e0")]
    assert driver.encoded("s", "e0", "a") == [decode("s", "d0", ("a", "e0"))]


def test_a_shared_encode_whose_carrier_left_keeps_its_place() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    driver.submit("s", "b")
    driver.submit("t", "a")
    assert driver.cancel("r") == [encode("t", "a", "e0")]


def test_a_shared_encode_goes_on_when_its_carrier_runs_out_of_time() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a", deadline=1.0)
    driver.submit("s", "a")
    decisions = driver.tick(1.0)
    assert rejected(decisions) == [("r", RejectReason.DEADLINE)]
    assert encode("s", "a", "e0") in decisions


def test_the_late_result_of_a_request_that_left_is_used_and_a_second_one_is_harmless() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    driver.submit("s", "a")
    driver.cancel("r")
    assert driver.encoded("r", "e0", "a") == [decode("s", "d0", ("a", "e0"))]
    assert driver.encoded("s", "e0", "a") == []
    assert driver.count("stale") == 1


def test_the_result_of_a_request_that_left_alone_is_kept_for_others() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    driver.cancel("r")
    driver.encoded("r", "e0", "a")
    assert driver.submit("s", "a") == [decode("s", "d0", ("a", "e0"))]


def test_an_encode_that_nobody_waits_for_leaves_the_queue() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    driver.submit("s", "b")
    driver.submit("t", "c")
    driver.cancel("s")
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0")), encode("t", "c", "e0")]


def test_a_failed_encode_is_tried_again_elsewhere() -> None:
    driver = with_encoders("e0", "e1")
    driver.submit("r", "a")
    assert driver.encode_failed("r", "e0", "a") == [encode("r", "a", "e1")]
    assert driver.count("encode_retries") == 1


def test_a_failed_encode_avoids_the_encoder_even_where_the_other_is_busy() -> None:
    driver = with_encoders("e0", "e1")
    driver.submit("r", "a")
    driver.submit("s", "b", tokens=10_000)
    assert driver.encode_failed("r", "e0", "a") == []
    assert encode("r", "a", "e1") in driver.encoded("s", "e1", "b")


def test_a_lone_encoder_is_tried_again_until_the_attempts_are_used_up() -> None:
    driver = with_encoders("e0", max_attempts=3)
    driver.submit("r", "a")
    assert driver.encode_failed("r", "e0", "a") == [encode("r", "a", "e0")]
    assert driver.encode_failed("r", "e0", "a") == [encode("r", "a", "e0")]
    assert rejected(driver.encode_failed("r", "e0", "a")) == [("r", RejectReason.ATTEMPTS)]
    assert driver.running("e0") == 0


def test_attempts_are_counted_for_each_request_that_waits() -> None:
    driver = with_encoders("e0", max_attempts=2)
    driver.submit("old", "a")
    driver.encode_failed("old", "e0", "a")
    driver.submit("new", "a")
    decisions = driver.encode_failed("old", "e0", "a")
    assert rejected(decisions) == [("old", RejectReason.ATTEMPTS)]
    assert encode("new", "a", "e0") in decisions


def test_a_bad_item_ends_every_request_that_waits_for_it() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    driver.submit("s", "a", "b")
    decisions = driver.encode_failed("r", "e0", "a", retryable=False)
    assert rejected(decisions) == [("r", RejectReason.BAD_ITEM), ("s", RejectReason.BAD_ITEM)]
    assert driver.running("e0") == 0


@pytest.mark.parametrize("worker", ["e0", "e9"])
def test_a_failure_reported_for_another_posting_is_ignored(worker: str) -> None:
    driver = with_encoders("e0", "e1")
    driver.submit("r", "a")
    driver.encode_failed("r", "e0", "a")  # goes on at e1
    assert driver.encode_failed("r", worker, "a", retryable=False) == []
    assert driver.encoded("r", "e1", "a") == [decode("r", "d0", ("a", "e1"))]


def test_an_embedding_evicted_before_its_decode_is_encoded_again() -> None:
    driver = with_encoders("e0", "e1")
    driver.submit("r", "a", "b")
    driver.encoded("r", "e0", "a")
    assert driver.evicted("e0", "key-a") == [encode("r", "a", "e0")]
    driver.encoded("r", "e0", "a")
    assert driver.encoded("r", "e1", "b") == [decode("r", "d0", ("a", "e0"), ("b", "e1"))]
    assert (driver.count("encodes"), driver.count("reencodes")) == (3, 1)


def test_a_first_encode_and_one_that_is_retried_are_no_reencodes() -> None:
    driver = with_encoders("e0", "e1")
    driver.submit("text")
    driver.submit("r", "a")
    driver.encode_failed("r", "e0", "a")
    driver.encoded("r", "e1", "a")
    assert [driver.count(name) for name in ("encodes", "encode_retries", "reencodes")] == [2, 1, 0]
    assert [driver.count(name) for name in ("submitted", "images_submitted")] == [2, 1]


def test_a_ready_request_goes_back_when_its_embedding_is_evicted() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0", slots=1)
    driver.submit("runs")
    driver.submit("r", "a")
    assert driver.encoded("r", "e0", "a") == []
    assert driver.evicted("e0", "key-a") == [encode("r", "a", "e0")]
    assert driver.decoded("runs", "d0") == []
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"))]


def test_an_embedding_that_is_evicted_again_and_again_ends_the_request() -> None:
    driver = with_encoders("e0", max_attempts=2)
    driver.submit("r", "a", "b")
    driver.encoded("r", "e0", "a")
    driver.evicted("e0", "key-a")
    driver.encoded("r", "e0", "b")
    driver.lost("d0")
    driver.encoded("r", "e0", "a")
    assert rejected(driver.evicted("e0", "key-a")) == [("r", RejectReason.ATTEMPTS)]


def test_an_eviction_after_the_decode_was_issued_is_the_decoders_to_notice() -> None:
    driver = with_encoders("e0")
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a")
    assert driver.evicted("e0", "key-a", "never heard of") == []
    assert driver.submit("s", "a") == [encode("s", "a", "e0")]


def test_the_directory_forgets_the_least_recently_used_but_nothing_in_use() -> None:
    driver = with_encoders("e0", "e1", cached_items=1)
    driver.submit("r", "a", "b")
    driver.encoded("r", "e0", "a")
    assert driver.encoded("r", "e1", "b") == [decode("r", "d0", ("a", "e0"), ("b", "e1"))]
    assert driver.submit("s", "b") == [decode("s", "d0", ("b", "e1"))]
    assert driver.submit("t", "a") == [encode("t", "a", "e0")]


def test_results_that_nobody_waits_for_are_bounded_too() -> None:
    driver = with_encoders("e0", cached_items=1)
    for uuid in ("a", "b"):
        driver.submit("r", uuid)
        driver.cancel("r")
        driver.encoded("r", "e0", uuid)
    assert driver.status.workers[0].held == 1
    assert driver.submit("s", "b") == [decode("s", "d0", ("b", "e0"))]


def test_an_encoder_whose_store_is_full_of_what_waits_for_a_decoder_begins_no_further_encode() -> None:
    driver = Driver()
    driver.encoder("e0", store=100)
    driver.decoder("d0")
    driver.submit("first", "a")
    assert driver.encoded("first", "e0", "a", nbytes=50) == [decode("first", "d0", ("a", "e0"))]
    driver.submit("second", "b")
    driver.submit("third", "c")
    assert driver.encoded("second", "e0", "b", nbytes=50) == [encode("third", "c", "e0")]  # half full: room for more
    driver.submit("fourth", "d")
    assert driver.encoded("third", "e0", "c", nbytes=50) == []  # "second" and "third" wait for d0
    assert driver.decoded("first", "d0") == [decode("second", "d0", ("b", "e0")), encode("fourth", "d", "e0")]


def test_an_embedding_that_several_wait_with_counts_once() -> None:
    driver = Driver()
    driver.encoder("e0", store=100)
    driver.decoder("d0")
    driver.submit("first", "a")
    driver.submit("second", "a")
    driver.submit("third", "a")
    driver.encoded("first", "e0", "a", nbytes=50)
    assert driver.submit("fourth", "b") == [encode("fourth", "b", "e0")]


def test_images_of_one_request_fan_out_only_where_the_last_is_done_sooner() -> None:
    driver = Driver()
    driver.encoder("slow", slots=9, rate=10.0)
    driver.encoder("fast", slots=9, rate=100.0)
    driver.decoder("d0")
    assert placed(driver.submit("r", "a", "b", "c", tokens=100)) == ["fast", "fast", "fast"]
    driver.encoder("equal", slots=9, rate=100.0)
    assert sorted(placed(driver.submit("s", "d", "e", "f", tokens=100))) == ["equal", "equal", "equal"]
    assert set(placed(driver.submit("t", "g", "h", tokens=100))) == {"fast", "equal"}


def test_the_largest_image_of_a_request_is_placed_first() -> None:
    driver = Driver()
    driver.encoder("e0", slots=9)
    driver.encoder("e1", slots=9)
    driver.decoder("d0")
    sizes = {"a": 100, "b": 100, "c": 200}
    items = tuple(Item(ItemUuid(uuid), "image", tokens) for uuid, tokens in sizes.items())
    decisions = driver.do(Submit(RequestId("r"), items, 10, 10, 60.0))
    assert {one.uuid: one.worker for one in decisions if isinstance(one, Encode)} == {"c": "e0", "a": "e1", "b": "e1"}
