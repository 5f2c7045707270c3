"""vLLM's own arithmetic comes to the same figures. Importing it takes as long as starting a small engine."""

import random

import pytest

from bench.load.answers import Answer
from bench.load.figures import figures

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


def drawn(number: int, dice: random.Random) -> Answer:
    sent_s = dice.uniform(0, 60)
    chunks = [sent_s + dice.expovariate(2)]
    for _ in range(dice.randint(0, 12)):
        chunks.append(chunks[-1] + dice.expovariate(20))
    failed = dice.random() < 0.05
    tokens = len(chunks) + dice.randint(0, 3)
    return Answer(number, "text", sent_s, sent_s, tuple(chunks), chunks[-1], 40, tokens, "gone" if failed else None)


def test_figures_are_vllms() -> None:
    serve = pytest.importorskip("vllm.benchmarks.serve")
    dice = random.Random(1)
    answers = [drawn(number, dice) for number in range(1200)]
    outputs = [
        serve.RequestFuncOutput(
            success=answer.ok,
            latency=answer.e2el_s,
            output_tokens=answer.output_tokens,
            ttft=answer.ttft_s,
            itl=answer.itls_s,
            prompt_len=answer.prompt_tokens,
            start_time=answer.sent_s,
        )
        for answer in answers
    ]
    theirs, _ = serve.calculate_metrics([], outputs, 70.0, None, [90.0, 95.0, 99.0], {})
    ours = figures(answers, seconds=70.0)
    for name in ("completed", "failed", "request_throughput", "output_throughput", "total_token_throughput"):
        assert ours[name] == pytest.approx(getattr(theirs, name))
    for time in ("ttft", "tpot", "itl", "e2el"):
        for statistic in ("mean", "median", "std"):
            assert ours[f"{statistic}_{time}_ms"] == pytest.approx(getattr(theirs, f"{statistic}_{time}_ms"))
        for share, value in getattr(theirs, f"percentiles_{time}_ms"):
            assert ours[f"p{share:.0f}_{time}_ms"] == pytest.approx(value)
