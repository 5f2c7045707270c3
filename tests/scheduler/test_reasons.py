"""What the core says of its decisions."""

from core_driver import Driver
from thief_driver import cluster, with_thief

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


def test_a_theft_and_a_return_name_the_numbers_that_decided() -> None:
    driver = with_thief()  # its decoder owes 500 tokens, and does 100 a second
    driver.submit("r", output=50, stealable=True)
    driver.submit("image", "a", tokens=1000)
    [_, stolen, asked] = reasons(driver, "r")
    assert (stolen.what, stolen.worker, asked.what, asked.worker) == ("stolen", "t0", "asked back", "t0")
    assert said(stolen) == (
        "t0, whose card no image needs, would have it done up to 6.00 s sooner: it would wait up to 5.50 s for a "
        "decoder; each of up to 50 tokens takes 0.0100 s here, 0.0200 s there, and images cost 0.00 s of pauses"
    )
    assert said(asked) == (
        "t0 is held for 10.00 s, as an image goes first; a decoder could take it in 5.00 s, and be as far again "
        "0.10 s later"
    )
    driver.returned("r", "t0", 20)
    assert said(reasons(driver, "r")[-1]).startswith("t0 gave it back with 20 tokens done")


def test_what_a_thief_takes_while_no_decoder_lives_says_so() -> None:
    driver = cluster()
    driver.lost("d0")
    driver.submit("r", output=50, stealable=True)
    driver.thief("t0", "e0")
    assert [reason.what for reason in reasons(driver, "r")] == ["admitted", "only thieves"]


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
        table = reasons_table("r", [reason])
        assert table.row_count == 1
        assert "max_tokens" in str(table.caption)


def test_an_answer_tells_the_time_on_the_clock_of_its_reasons() -> None:
    driver = Driver()
    driver.decoder("d0")
    driver.submit("r")
    driver.tick(3.0)
    [answer] = driver.do(AskReasons(RequestId("asker"), RequestId("r")))
    assert isinstance(answer, Reasons)
    assert answer.now_s - answer.reasons[0].at_s == 3.0
