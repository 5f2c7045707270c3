"""What is told of one answer: vLLM's definitions, and that a journal can hold it."""

import msgspec
import pytest

from bench.load.answers import Answer

ANSWER = Answer(
    number=3,
    kind="carrier",
    due_s=1.0,
    sent_s=1.25,
    chunks_s=(2.25, 2.5, 3.25),
    ended_s=3.5,
    prompt_tokens=70,
    output_tokens=5,
    phases_ms={"encode": 1.5},
)


def test_times_are_counted_from_when_it_was_sent_to_the_last_chunk() -> None:
    assert (ANSWER.ttft_s, ANSWER.e2el_s, ANSWER.late_s) == (1.0, 2.0, 0.25)
    assert ANSWER.itls_s == [0.25, 0.75]


def test_time_per_token_divides_by_tokens_not_by_chunks() -> None:
    assert ANSWER.tpot_s == (2.0 - 1.0) / 4


def test_a_chunk_that_only_names_a_role_counts_for_vllm_and_not_for_us() -> None:
    led = msgspec.structs.replace(ANSWER, leading=1)
    assert (led.ttft_s, led.itls_s, led.tpot_s) == (ANSWER.ttft_s, ANSWER.itls_s, ANSWER.tpot_s)
    assert (led.tokens_s, led.gaps_s) == ((2.5, 3.25), [0.75])
    assert led.waited_s == 1.5  # from when it was due


@pytest.mark.parametrize("tokens", [0, 1])
def test_one_token_has_no_time_per_token(tokens: int) -> None:
    one = msgspec.structs.replace(ANSWER, chunks_s=(2.25,), output_tokens=tokens)
    assert (one.tpot_s, one.itls_s) == (None, [])


def test_what_has_an_error_is_not_ok() -> None:
    assert ANSWER.ok
    assert not msgspec.structs.replace(ANSWER, error="gone").ok


def test_it_is_the_same_after_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ANSWER), type=Answer) == ANSWER
