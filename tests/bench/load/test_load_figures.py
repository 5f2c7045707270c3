"""Figures under vLLM's names, by its formulas."""

from collections.abc import Sequence

import numpy as np
import pytest

from bench.load.answers import Answer
from bench.load.figures import figures


def answer(
    number: int = 0,
    sent_s: float = 0.0,
    chunks_s: Sequence[float] = (1.0, 1.5),
    tokens: int = 2,
    prompt: int | None = 10,
    error: str | None = None,
    late_s: float = 0.0,
) -> Answer:
    return Answer(
        number=number,
        kind="text",
        due_s=sent_s - late_s,
        sent_s=sent_s,
        chunks_s=tuple(chunks_s),
        ended_s=chunks_s[-1] + 0.5 if chunks_s else sent_s + 0.5,
        prompt_tokens=prompt,
        output_tokens=tokens,
        error=error,
    )


ANSWERS = [
    answer(0, 0.0, (1.0, 1.5, 2.5), tokens=4),
    answer(1, 1.0, (1.25,), tokens=1),
    answer(2, 2.0, (), tokens=0, prompt=None, error="gone", late_s=0.02),
    answer(3, 3.0, (5.0, 9.5), tokens=2, late_s=0.01),
]


def test_throughputs_are_over_the_time_to_the_end_of_the_last_answer() -> None:
    found = figures(ANSWERS)
    assert (found["completed"], found["failed"], found["duration"]) == (3, 1, 10.0)
    assert found["request_throughput"] == 0.3
    assert found["output_throughput"] == 0.7
    assert found["total_token_throughput"] == 3.7


def test_a_failed_one_lasts_too() -> None:
    late = answer(4, 19.5, (), error="gone")
    assert figures([*ANSWERS, late])["duration"] == 20.0


def test_throughputs_are_over_the_time_that_is_given() -> None:
    found = figures(ANSWERS, seconds=2.0)
    assert (found["duration"], found["request_throughput"], found["output_throughput"]) == (2.0, 1.5, 3.5)


def test_latencies_are_of_requests_or_pooled_over_gaps() -> None:
    found = figures(ANSWERS)
    assert found["mean_ttft_ms"] == pytest.approx((1000 + 250 + 2000) / 3)
    assert found["median_ttft_ms"] == 1000
    assert found["mean_e2el_ms"] == pytest.approx((2500 + 250 + 6500) / 3)
    assert found["mean_tpot_ms"] == pytest.approx((500 + 4500) / 2)
    assert found["mean_itl_ms"] == pytest.approx((500 + 1000 + 4500) / 3)
    assert found["median_itl_ms"] == 1000
    assert found["std_itl_ms"] == pytest.approx(np.std([500, 1000, 4500]))
    assert found["p90_itl_ms"] == pytest.approx(1000 + 0.8 * 3500)  # between the second and the third of three


def test_the_worst_lateness_counts_failed_ones() -> None:
    assert figures(ANSWERS)["max_late_ms"] == pytest.approx(20)


def test_p99_needs_a_thousand_samples_of_its_own() -> None:
    few = [answer(number, float(number), (number + 1.0, number + 1.5)) for number in range(999)]
    found = figures(few)
    assert not [name for name in found if name.startswith("p99")]
    assert "p95_itl_ms" in found
    found = figures([*few, answer(999, 999.0, (1001.0,), tokens=1)])
    assert {name for name in found if name.startswith("p99")} == {"p99_ttft_ms", "p99_e2el_ms"}


def test_what_there_is_none_of_is_left_out() -> None:
    found = figures([answer(0, 0.0, (1.0,), tokens=1), answer(1, 0.0, (1.0,), tokens=1, prompt=None)])
    assert "mean_ttft_ms" in found
    assert not {"mean_tpot_ms", "mean_itl_ms", "total_token_throughput"} & found.keys()


def test_nothing_but_failures_is_told_as_such() -> None:
    found = figures([answer(0, 0.0, (), tokens=0, error="gone", late_s=0.0)])
    assert found == {
        "completed": 0,
        "failed": 1,
        "duration": 0.5,
        "request_throughput": 0.0,
        "output_throughput": 0.0,
        "total_token_throughput": 0.0,
        "max_late_ms": 0.0,
    }
    assert figures([]) == {"completed": 0, "failed": 0, "duration": 0.0}
