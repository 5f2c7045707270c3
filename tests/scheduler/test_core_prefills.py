"""How many prompts with images a decoder computes at once."""

from core_driver import Driver, decode

from chiasm.messages import Decode
from chiasm.nouns import RequestId


def one_encoder_one_decoder(prefill: int, kv: int = 10_000) -> Driver:
    """Images take 100 tokens, and 10 of text go with them."""
    driver = Driver()
    driver.encoder("e0", slots=8)
    driver.decoder("d0", slots=8, kv=kv, prefill=prefill)
    return driver


def ask(driver: Driver, request: str, image: str, streams: bool = True) -> list[object]:
    driver.submit(request, image, streams=streams)
    return list(driver.encoded(request, "e0", image))


def test_a_prompt_of_any_size_may_come_and_the_next_waits_until_its_first_token() -> None:
    driver = one_encoder_one_decoder(prefill=50)
    assert ask(driver, "first", "a") == [decode("first", "d0", ("a", "e0"))]
    assert ask(driver, "second", "b") == []
    assert driver.begun("first", "d0") == [decode("second", "d0", ("b", "e0"))]


def test_as_many_prompts_as_two_steps_take_come_at_once() -> None:
    driver = one_encoder_one_decoder(prefill=110)
    assert len(ask(driver, "first", "a")) == len(ask(driver, "second", "b")) == 1
    assert ask(driver, "third", "c") == []


def test_text_passes_an_image_that_waits_for_a_prefill() -> None:
    driver = one_encoder_one_decoder(prefill=50)
    ask(driver, "first", "a")
    ask(driver, "second", "b")
    assert driver.submit("text") == [decode("text", "d0")]


def test_text_does_not_pass_an_image_that_waits_for_room_as_well() -> None:
    driver = one_encoder_one_decoder(prefill=50, kv=200)
    ask(driver, "first", "a")
    ask(driver, "second", "b")
    assert driver.submit("text") == []
    [second, text] = [one for one in driver.decoded("first", "d0") if isinstance(one, Decode)]
    assert (second.request, text.request) == (RequestId("second"), RequestId("text"))


def test_what_is_not_streamed_counts_for_nothing() -> None:
    driver = one_encoder_one_decoder(prefill=50)
    assert len(ask(driver, "first", "a", streams=False)) == len(ask(driver, "second", "b")) == 1
    assert len(ask(driver, "third", "c", streams=False)) == 1


def test_a_decoder_without_a_bound_takes_them_all() -> None:
    driver = one_encoder_one_decoder(prefill=0)
    assert [len(ask(driver, f"r{number}", f"u{number}")) for number in range(4)] == [1, 1, 1, 1]


def test_a_prefill_that_comes_to_nothing_makes_way() -> None:
    driver = one_encoder_one_decoder(prefill=50)
    ask(driver, "first", "a")
    ask(driver, "second", "b")
    assert driver.cancel("first") == [decode("second", "d0", ("b", "e0"))]
    assert driver.begun("first", "d0") == []
    assert driver.count("stale") == 1


def test_the_first_token_of_an_engine_that_is_lost_says_nothing() -> None:
    driver = one_encoder_one_decoder(prefill=50)
    ask(driver, "first", "a")
    driver.decoder("d0", slots=8, kv=10_000, prefill=50)
    ask(driver, "second", "b")
    ask(driver, "third", "c")
    assert driver.begun("first", "d0") == []
    assert driver.begun("second", "d0") == [decode("third", "d0", ("c", "e0"))]
