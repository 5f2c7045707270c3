"""Figures of a drive under the names, and by the formulas, of `vllm bench serve`.

From calculate_metrics of vllm/benchmarks/serve.py (vLLM 0.32), over the answers that are `ok`:

    request_throughput      completed / duration
    output_throughput       sum of output tokens / duration
    total_token_throughput  (sum of prompt tokens + sum of output tokens) / duration
    ttft, e2el              one sample a request; tpot: one a request of several tokens; itl: all gaps of all requests
    mean, median, std       std over all samples (divided by n); percentiles interpolated linearly between samples
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.load.answers import Answer
from bench.percentiles import P99_FROM

PERCENTILES = (90, 95, 99)


def figures(answers: Sequence[Answer], *, seconds: float | None = None) -> dict[str, float]:
    """Throughputs are per second, latencies in ms. `seconds` is what throughputs are told over: else it is from the
    beginning of the drive to the end of the last answer, as vLLM's.

    Left out are: p99 of fewer than `P99_FROM` samples; what there is no sample of; throughputs of no time; and
    total_token_throughput where a server did not tell prompt tokens. `max_late_ms`, over failed requests too, is ours:
    how late requests were sent at worst, by the load generator's fault or a limit of requests at a time.
    """
    done = [answer for answer in answers if answer.ok]
    duration = max((answer.ended_s for answer in answers), default=0.0) if seconds is None else seconds
    found: dict[str, float] = {"completed": len(done), "failed": len(answers) - len(done), "duration": duration}
    found |= _throughputs(done, duration) if duration > 0 else {}
    samples_s = {
        "ttft": [answer.ttft_s for answer in done],
        "tpot": [tpot_s for answer in done if (tpot_s := answer.tpot_s) is not None],
        "itl": [itl_s for answer in done for itl_s in answer.itls_s],
        "e2el": [answer.e2el_s for answer in done],
    }
    for name, values in samples_s.items():
        found |= _statistics(name, values)
    if answers:
        found["max_late_ms"] = 1000 * max(answer.late_s for answer in answers)
    return found


def _throughputs(done: Sequence[Answer], duration: float) -> dict[str, float]:
    output = sum(answer.output_tokens for answer in done)
    prompts = [answer.prompt_tokens for answer in done if answer.prompt_tokens is not None]
    found = {"request_throughput": len(done) / duration, "output_throughput": output / duration}
    if len(prompts) == len(done):
        found["total_token_throughput"] = (sum(prompts) + output) / duration
    return found


def _statistics(name: str, values_s: Sequence[float]) -> dict[str, float]:
    if not values_s:
        return {}
    values_ms = 1000 * np.asarray(values_s)
    told = [share for share in PERCENTILES if share < 99 or len(values_ms) >= P99_FROM]
    found: dict[str, Any] = {
        "mean": values_ms.mean(),
        "median": np.median(values_ms),
        "std": values_ms.std(),
        **{f"p{share}": np.percentile(values_ms, share) for share in told},
    }
    return {f"{statistic}_{name}_ms": float(value) for statistic, value in found.items()}
