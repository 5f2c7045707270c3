"""Where images go, while encoders and decoders live beside whole workers.

Of the test driver's workers each does 100 tokens a second; an image has 100 tokens, 10 of text go with it, and 10 are
generated.
"""

import pytest
from core_driver import Driver, decode, encode, placed, rejected

from bench.policies import RoundRobin
from chiasm.explain import sentence
from chiasm.messages import Reason, RejectReason
from chiasm.nouns import RequestId, Role
from scheduler.core import Core


def both(encoders: int = 1, slots: int = 1, itl_slo_s: float = 1.0) -> Driver:
    """Encoders, a decoder and a whole worker."""
    driver = Driver(itl_slo_s=itl_slo_s)
    for number in range(encoders):
        driver.encoder(f"e{number}")
    driver.decoder("d0", slots=slots)
    driver.decoder("w0", slots=slots, role=Role.WHOLE)
    return driver


def busy_encoder(itl_slo_s: float = 1.0) -> Driver:
    """The encoder is busy for ten seconds."""
    driver = both(itl_slo_s=itl_slo_s)
    assert driver.submit("long", "panorama", tokens=1000) == [encode("long", "panorama", "e0")]
    return driver


def whole(request: str, worker: str = "w0") -> object:
    return decode(request, worker, role=Role.WHOLE)


def why(driver: Driver, request: str) -> Reason:
    """The latest choice between the two."""
    reasons = driver.core.reasons(RequestId("asker"), RequestId(request), driver.now).reasons
    ways = ("goes whole", "goes split", "wholes failed", "spares streams", "only whole")
    return [one for one in reasons if one.what in ways][-1]


def said(reason: Reason) -> str:
    return sentence({name: getattr(reason, name) for name in Reason.__struct_fields__})


def test_an_image_is_split_where_nothing_waits() -> None:
    driver = both()
    assert driver.submit("r", "a") == [encode("r", "a", "e0")]
    assert driver.encoded("r", "e0", "a") == [decode("r", "d0", ("a", "e0"))]
    assert said(why(driver, "r")) == (
        "split it would be done in 2.20 s, its images encoded in 1.00 s; a whole worker would take 2.30 s"
    )


def test_an_image_goes_whole_where_the_encoder_is_busy_for_longer() -> None:
    driver = busy_encoder()
    assert driver.submit("r", "a") == [whole("r")]
    assert driver.count("images_whole") == 1
    assert said(why(driver, "r")) == (
        "a whole worker would have it done in 2.30 s; split it would take 12.20 s, of which 11.00 s until its images "
        "are encoded"
    )


def test_an_image_goes_whole_where_the_decoder_is_busy_for_longer() -> None:
    driver = both(slots=2)
    driver.submit("text", output=900)
    assert driver.submit("r", "a") == [whole("r")]


def test_what_waits_for_the_decoders_counts_too() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0")
    for number in range(3):
        driver.submit(f"image {number}", "same", output=200)
    driver.decoder("w0", role=Role.WHOLE)
    assert driver.submit("r", "a", "same") == [whole("r")]
    assert why(driver, "r").numbers["split_s"] > 6.0


def test_text_that_waits_counts_for_both() -> None:
    driver = both()
    for number in range(4):
        driver.submit(f"text {number}", output=400)
    numbers = []
    for request in ("r", "s"):
        driver.submit(request, request)
        numbers.append(why(driver, request).numbers)
        driver.cancel(request)
        driver.submit("more text", output=200)
    for arrangement in ("split_s", "whole_s"):
        assert numbers[1][arrangement] - numbers[0][arrangement] == pytest.approx(1.0)


def test_images_that_wait_for_a_whole_worker_keep_others_from_it() -> None:
    driver = busy_encoder(itl_slo_s=100.0)
    ways = [placed(driver.submit(f"r{number}", f"u{number}")) for number in range(8)]
    assert ways == [["w0"]] + [[]] * 7
    choices = [why(driver, f"r{number}").what for number in range(8)]
    assert choices[:4] == ["goes whole"] * 4  # then both are as far behind, and take turns
    assert choices.count("goes split") >= 2


@pytest.mark.parametrize("streams", [True, False])
def test_prompts_count_as_ahead_until_their_first_token_is_reported(streams: bool) -> None:
    driver = both(slots=3, itl_slo_s=100.0)
    driver.submit("long", "panorama", tokens=1000)
    driver.submit("r", "a", streams=streams)
    driver.submit("s", "b")
    assert why(driver, "s").numbers["whole_s"] == pytest.approx(2.3 + 2.3)
    driver.begun("r", "w0", seconds=2.2)
    driver.submit("t", "c")
    ahead_s = (0.1 + 2.3) if streams else (2.3 + 2.3)
    assert why(driver, "t").numbers["whole_s"] == pytest.approx(ahead_s + 2.3)


def test_an_image_that_an_encoder_holds_is_split_however_busy_that_is() -> None:
    driver = both()
    driver.submit("first", "a")
    driver.encoded("first", "e0", "a")
    driver.decoded("first", "d0")
    driver.submit("long", "panorama", tokens=1000)
    assert driver.submit("r", "a") == [decode("r", "d0", ("a", "e0"))]


def test_an_encode_that_is_under_way_for_another_is_waited_for() -> None:
    driver = busy_encoder()
    driver.submit("r", "panorama", tokens=1000)
    assert why(driver, "r").numbers["encode_s"] == 10.0


def test_several_images_fan_out_over_the_encoders() -> None:
    for encoders, encode_s in ((1, 4.0), (2, 2.0), (4, 1.0), (8, 1.0)):
        driver = both(encoders=encoders)
        driver.submit("r", "a", "b", "c", "d")
        assert why(driver, "r").numbers["encode_s"] == encode_s


def test_an_image_waits_for_the_split_rather_than_stall_the_streams_of_a_whole_worker() -> None:
    driver = both(slots=2)
    driver.submit("at d0", output=100)
    assert driver.submit("at w0", output=10) == [decode("at w0", "w0", role=Role.WHOLE)]
    driver.submit("long", "panorama", tokens=1000)
    driver.submit("r", "a")
    assert (driver.running("w0"), why(driver, "r").what) == (1, "spares streams")
    assert said(why(driver, "r")).endswith(
        "but its streams could stall for 2.20 s, and scheduler.itl_slo_ms allows 1.00 s"
    )


def test_streams_may_stall_for_as_long_as_the_objective_allows() -> None:
    driver = both(slots=2, itl_slo_s=2.5)
    driver.submit("at d0", output=100)
    driver.submit("at w0", output=10)
    driver.submit("long", "panorama", tokens=1000)
    assert driver.submit("r", "a", streams=True) == [whole("r")]
    # A second one would add to the stall. It could wait until the first has come to its first token.
    driver.submit("s", "b", streams=True)
    assert driver.running("w0") == 2
    driver.decoded("at w0", "w0")
    assert driver.running("w0") == 1
    assert driver.begun("r", "w0", seconds=2.2) == [whole("s")]


def test_of_two_whole_workers_the_one_without_streams_takes_it() -> None:
    driver = both(slots=2)
    driver.decoder("w1", slots=2, rate=10.0, role=Role.WHOLE)
    driver.submit("at d0", output=100)
    assert placed(driver.submit("at w0")) == ["w0"]
    driver.submit("long", "panorama", tokens=1000)
    assert driver.submit("r", "a") == [whole("r", "w1")]


def test_how_long_a_whole_worker_takes_is_measured_by_first_tokens() -> None:
    driver = busy_encoder()
    driver.submit("r", "a", streams=True)
    driver.begun("r", "w0", seconds=13.0)
    driver.decoded("r", "w0", output=10, seconds=13.1)
    driver.submit("s", "b")
    assert why(driver, "s").what == "goes split"
    assert why(driver, "s").numbers["whole_s"] == pytest.approx(13.1, rel=1e-3)


def test_prompts_that_were_ahead_at_the_same_worker_are_no_part_of_its_slowness() -> None:
    driver = both(slots=3, itl_slo_s=100.0)
    driver.submit("long", "panorama", tokens=1000)
    driver.submit("r", "a", streams=True)
    driver.submit("s", "b", streams=True)
    assert driver.running("w0") == 2
    driver.begun("r", "w0", seconds=2.0)
    driver.begun("s", "w0", seconds=4.0)
    driver.submit("t", "c")
    assert why(driver, "t").numbers["stall_s"] == pytest.approx(2.0)


def test_without_an_encoder_an_image_goes_whole_beside_streams_too() -> None:
    driver = both(slots=2)
    driver.submit("at d0", output=100)
    driver.submit("at w0")
    driver.lost("e0")
    assert driver.submit("r", "a") == [whole("r")]
    assert said(why(driver, "r")) == "not split: an encoder or a decoder is missing, and a whole worker lives"


def test_images_that_wait_go_the_better_way_when_a_whole_worker_comes() -> None:
    driver = Driver()
    driver.encoder("e0")
    driver.decoder("d0")
    driver.submit("long", "panorama", tokens=1000)
    driver.submit("r", "a")
    assert driver.decoder("w0", role=Role.WHOLE) == [whole("r")]
    assert driver.count("encodes") == 1  # which goes on
    assert placed(driver.encoded("long", "e0", "panorama", tokens=1000)) == ["d0"]


def test_images_that_wait_go_the_better_way_when_an_encoder_comes() -> None:
    driver = busy_encoder(itl_slo_s=100.0)
    driver.submit("r", "a")
    assert driver.submit("s", "b") == []
    assert driver.encoder("e1") == [encode("s", "b", "e1")]


def test_images_that_wait_go_split_when_the_last_whole_worker_dies() -> None:
    driver = busy_encoder(itl_slo_s=100.0)
    driver.submit("r", "a")
    driver.submit("s", "b")
    driver.lost("w0")
    assert driver.encoded("long", "e0", "panorama", tokens=1000)[-1] == encode("s", "b", "e0")


def test_the_first_that_waits_for_a_whole_worker_goes_split_once_that_is_sooner() -> None:
    driver = busy_encoder(itl_slo_s=100.0)
    driver.submit("r", "a", output=300)
    assert driver.submit("s", "b") == []
    assert driver.encoded("long", "e0", "panorama", tokens=100) == [
        decode("long", "d0", ("panorama", "e0")),
        encode("s", "b", "e0"),
    ]


def test_an_encoded_image_goes_whole_if_no_decoder_has_room_and_that_is_sooner() -> None:
    driver = both()
    driver.submit("at d0", output=900)
    driver.submit("at w0", output=500)
    assert driver.submit("r", "a") == [encode("r", "a", "e0")]  # to spare the streams
    assert driver.encoded("r", "e0", "a") == []
    assert driver.decoded("at w0", "w0", output=500, seconds=5.0) == [whole("r")]
    assert said(why(driver, "r")) == (
        "a whole worker would have it done in 2.30 s; split it would take 10.20 s, of which 0.00 s until its images "
        "are encoded"
    )
    assert driver.submit("s", "a") == []  # no longer kept for anybody, and still there
    assert driver.count("encode_cached") == 1


def test_an_encoded_image_waits_for_a_decoder_that_is_sooner() -> None:
    driver = both()
    driver.submit("at d0", output=20)
    driver.submit("at w0", output=10)
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a")
    assert driver.decoded("at w0", "w0", output=10, seconds=0.1) == []
    assert driver.decoded("at d0", "d0", output=20, seconds=0.2) == [decode("r", "d0", ("a", "e0"))]


def test_what_waits_for_a_whole_worker_keeps_nobody_from_a_decoder() -> None:
    driver = busy_encoder(itl_slo_s=100.0)
    driver.submit("r", "a", output=400)
    assert driver.submit("s", "b") == []
    assert why(driver, "s").what == "goes whole"
    assert driver.submit("text") == [decode("text", "d0")]


def test_text_does_not_pass_an_image_that_waits_for_a_whole_worker() -> None:
    driver = busy_encoder(itl_slo_s=100.0)
    driver.submit("r", "a")
    driver.submit("s", "b")
    driver.submit("at d0", output=300)
    assert driver.submit("text") == []
    assert driver.decoded("r", "w0") == [whole("s")]


def test_what_a_whole_worker_failed_at_is_tried_split() -> None:
    driver = busy_encoder()
    driver.submit("r", "a")
    assert driver.decode_failed("r", "w0") == []
    assert said(why(driver, "r")) == "goes split: every whole worker has failed at it"
    assert driver.encoded("long", "e0", "panorama", tokens=1000)[-1] == encode("r", "a", "e0")


def test_a_whole_worker_that_is_lost_brings_its_requests_back() -> None:
    driver = busy_encoder()
    driver.submit("r", "a")
    assert driver.decode_failed("r", "w0", unreachable=True) == []
    assert driver.encoded("long", "e0", "panorama", tokens=1000)[-1] == encode("r", "a", "e0")


def test_the_wait_that_a_client_is_told_does_not_ask_for_encoders_that_nobody_needs() -> None:
    driver = Driver(queue_limit=1)
    driver.decoder("w0", role=Role.WHOLE)
    driver.submit("runs", "a", output=100)
    driver.submit("waits", "b", output=100)
    [reject] = driver.submit("too many", "c")
    assert getattr(reject, "retry_after_s", None) == 2.0


def test_an_image_that_was_lost_too_often_goes_whole() -> None:
    driver = Driver(max_attempts=1)
    driver.encoder("e0")
    driver.decoder("d0")
    driver.decoder("w0", role=Role.WHOLE)
    driver.submit("at d0", output=900)
    driver.submit("at w0", output=900)
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a")
    assert driver.evicted("e0", "key-a") == []
    assert driver.decoded("at d0", "d0", output=900, seconds=9.0) == []
    assert driver.decoded("at w0", "w0", output=900, seconds=9.0) == [whole("r")]


def test_what_waits_for_a_whole_worker_goes_split_when_an_encoder_becomes_idle() -> None:
    driver = both(itl_slo_s=1000.0)
    driver.submit("at d0", output=100)
    driver.submit("at w0", output=3000)
    driver.submit("long", "panorama", tokens=5000)
    assert driver.submit("r", "a") == []
    assert why(driver, "r").what == "goes whole"
    assert driver.cancel("long") == [encode("r", "a", "e0")]


def test_what_waits_for_a_whole_worker_goes_split_when_its_image_turns_out_to_be_encoded() -> None:
    driver = both(itl_slo_s=1000.0)
    driver.submit("left", "a")
    driver.cancel("left")
    driver.submit("at d0", output=100)
    driver.submit("at w0", output=900)
    driver.submit("long", "panorama", tokens=5000)
    assert driver.submit("r", "a") == []
    assert driver.encoded("left", "e0", "a") == []
    assert why(driver, "r").what == "goes split"
    assert driver.decoded("at d0", "d0", output=100) == [decode("r", "d0", ("a", "e0"))]


def test_an_encoded_image_goes_whole_as_soon_as_whole_workers_are_known_to_be_faster() -> None:
    """Until they are measured, their speed is guessed by that of encoders."""
    driver = Driver()
    driver.encoder("e0", slots=4)
    driver.decoder("d0")
    driver.decoder("w0", slots=2, role=Role.WHOLE)
    driver.submit("at d0", output=3000)
    driver.submit("at w0", output=100)
    for number in range(4):
        driver.submit(f"r{number}", f"u{number}")
    assert driver.encoded("r0", "e0", "u0") == []  # its prompt could stall a stream for 2.2 s
    assert [placed(driver.encoded(f"r{number}", "e0", f"u{number}", seconds=0.1)) for number in (1, 2)] == [[], ["w0"]]


def notes(driver: Driver, request: str) -> list[str]:
    return [one.what for one in driver.core.reasons(RequestId("asker"), RequestId(request), driver.now).reasons]


def test_what_waits_is_asked_once_when_workers_matter_to_it() -> None:
    driver = busy_encoder()
    driver.submit("at d0", "b")
    driver.submit("r", "a")
    noted = len(notes(driver, "r"))
    driver.decoder("text-only", role=Role.TEXT)
    driver.thief("t0", "e0")
    driver.lost("text-only")
    assert len(notes(driver, "r")) == noted
    driver.decoder("d0")
    assert len(notes(driver, "r")) == noted + 1
    for decoder in ("d1", "d2", "d3"):
        driver.decoder(decoder)
    noted = len(notes(driver, "r"))
    driver.now += driver.config.heartbeat_timeout_s
    for worker in ("e0", "d0", "w0"):
        driver.heartbeat(worker)
    driver.tick(0.1)
    assert (driver.count("workers_lost"), len(notes(driver, "r"))) == (6, noted + 1)


def test_an_idle_whole_worker_that_comes_is_counted_on_by_one_image_only() -> None:
    driver = Driver(itl_slo_s=0.1)
    driver.encoder("e0")
    driver.decoder("d0")
    driver.submit("long", "panorama", tokens=2000)
    for number in range(4):
        driver.submit(f"r{number}", f"u{number}")
    assert placed(driver.decoder("w0", slots=4, role=Role.WHOLE)) == ["w0"]
    went_whole = ["goes whole" in notes(driver, f"r{number}") for number in range(4)]
    assert went_whole == [True, False, False, False]


def test_a_forecast_is_no_choice_of_an_encoder() -> None:
    driver = Driver()
    driver.core = Core(driver.config, RoundRobin())
    for encoder in ("e0", "e1"):
        driver.encoder(encoder, slots=9)
    driver.decoder("d0")
    driver.decoder("w0", role=Role.WHOLE)
    assert [placed(driver.submit(f"r{number}", f"u{number}", tokens=10)) for number in range(3)] == [
        ["e0"],
        ["e1"],
        ["e0"],
    ]


def test_an_image_that_was_lost_too_often_ends_with_the_last_whole_worker() -> None:
    driver = Driver(max_attempts=1)
    driver.encoder("e0")
    driver.decoder("d0")
    driver.decoder("w0", role=Role.WHOLE)
    driver.submit("at d0", output=900)
    driver.submit("at w0", output=900)
    driver.submit("r", "a")
    driver.encoded("r", "e0", "a")
    driver.evicted("e0", "key-a")
    assert rejected(driver.lost("w0")) == [("r", RejectReason.ATTEMPTS)]
