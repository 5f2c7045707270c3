"""What the core says of its decisions."""

from core_driver import Driver

from chiasm.explain import SENTENCES, reasons_table, sentence
from chiasm.messages import AskReasons, Reason, Reasons
from chiasm.nouns import RequestId
from scheduler.reasons import NOTES, NUMBERS


def reasons(driver: Driver, request: str) -> tuple[Reason, ...]:
    [answer] = driver.do(AskReasons(RequestId("asker"), RequestId(request)))
    assert isinstance(answer, Reasons)
    assert (answer.request, answer.about) == ("asker", request)
    return answer.reasons


def said(reason: Reason) -> str:
    return sentence({name: getattr(reason, name) for name in Reason.__struct_fields__})


def test_a_placement_names_the_numbers_that_decided_and_what_else_was_considered() -> None:
    driver = Driver()
    driver.encoder("slow", rate=100.0)
    driver.encoder("fast", rate=1000.0)
    driver.decoder("d0")
    driver.submit("r", "a", tokens=200)
    [_, placed, _] = reasons(driver, "r")
    assert (placed.worker, placed.numbers) == ("fast", {"owed": 0, "tokens": 200, "tokens_per_s": 1000.0})
    assert placed.others == (("slow", 2.0),)
    assert said(placed) == (
        "fast would have encoded a first, in 0.20 s: it owes 0 tokens, this is 200, at 1000 tokens/s. "
        "Considered as well: slow in 2.00 s"
    )


def test_a_request_that_fails_says_how() -> None:
    driver = Driver(max_attempts=2)
    driver.encoder("e0")
    driver.decoder("d0")
    driver.submit("r", "a")
    driver.encode_failed("r", "e0", "a")
    driver.encode_failed("r", "e0", "a")
    whats = [reason.what for reason in reasons(driver, "r")]
    assert whats.count("encode failed") == 2
    assert whats[-1] == "ended"
    assert said(reasons(driver, "r")[-1]).startswith("attempts_exhausted")


def test_notes_are_bounded_by_requests_and_by_request() -> None:
    driver = Driver(explained_requests=2, max_attempts=1000)
    driver.encoder("e0")
    driver.decoder("d0")
    for request in ("a", "b", "c"):
        driver.submit(request, "item")
    assert reasons(driver, "a") == ()
    for _ in range(NOTES):
        driver.encode_failed("a", "e0", "item")
    assert len(reasons(driver, "b")) == NOTES
    driver.cancel("b")
    assert [reason.what for reason in reasons(driver, "b")][-1] == "ended"


def test_every_note_has_a_sentence_and_an_unknown_one_its_numbers() -> None:
    numbers = dict.fromkeys({name for names in NUMBERS.values() for name in names}, 1.0)
    for what in [*SENTENCES, "something newer"]:
        reason = {"at_s": 1.0, "what": what, "worker": "w", "detail": "d", "numbers": numbers, "others": ()}
        assert sentence(reason)
        assert reasons_table("r", [reason]).row_count == 1


def test_an_answer_tells_the_time_on_the_clock_of_its_reasons() -> None:
    driver = Driver()
    driver.decoder("d0")
    driver.submit("r")
    driver.tick(3.0)
    [answer] = driver.do(AskReasons(RequestId("asker"), RequestId("r")))
    assert isinstance(answer, Reasons)
    assert answer.now_s - answer.reasons[0].at_s == 3.0
