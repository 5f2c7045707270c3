"""One running server under load: what is sent, and its figures under the names that `vllm bench serve` writes."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.load.answers import Answer
from bench.load.asking import Endpoint
from bench.load.driver import Planned, drive
from bench.load.figures import figures
from bench.load.goodput import Objectives, holds
from bench.load.workloads import Workload
from bench.serve.salted import salted
from bench.serve.staircase import due_s, whole_bursts
from bench.streams import Unanswered

TIMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2el": "E2EL"}
STATISTICS = ("mean", "median", "std", "p90", "p95", "p99")
LEAST = {"p90_": 10, "p95_": 20}  # requests that such a percentile takes
THROUGHPUTS = {
    "completed": "requests answered",
    "failed": "requests failed",
    "duration": "seconds",
    "total_input_tokens": "prompt tokens",
    "total_output_tokens": "output tokens",
    "request_throughput": "requests/s",
    "within_objectives_per_s": "requests/s within objectives, from when they were sent",
    "output_throughput": "output tokens/s",
    "total_token_throughput": "tokens/s",
    "max_late_ms": "latest send, ms after it was due",
}
QUOTED = (
    *("request_throughput", "output_throughput", "within_objectives_per_s", "median_ttft_ms", "p95_ttft_ms"),
    *("median_tpot_ms", "median_itl_ms", "p95_itl_ms", "p99_itl_ms"),
)


@dataclass(frozen=True)
class Load:
    """How much comes, and how."""

    workload: Workload
    rate: float  # requests/s; infinite: all at once
    number: int  # requests
    burstiness: float = 1.0  # as vLLM's: 1 is Poisson's, less comes in bursts, more is evener
    seed: int = 0
    bursts: int = 1  # requests that come at one moment
    nonce: str = ""  # another one in every run, so that no cache of the server's knows prompts and pictures
    max_concurrency: int | None = None  # requests under way at a time, at most
    warmups: int = 0  # requests that are answered before, and counted nowhere

    @property
    def whole(self) -> int:
        """Requests, as many as whole bursts have."""
        return whole_bursts(self.number, self.bursts)

    def planned(self) -> list[Planned]:
        """The requests: the same for the same load, but for the letters and pixels in them."""
        return self._drawn()[self.warmups :]

    def warming_up(self) -> list[Planned]:
        """Requests of the same workload, all at once: others than `planned`, as far as the workload has so many."""
        return self._drawn()[: self.warmups]

    def _drawn(self) -> list[Planned]:
        dice = salted(self.seed, self.nonce)
        at_s = due_s(self.rate, self.whole, self.bursts, dice, self.burstiness)
        bodies = self.workload.bodies(self.warmups + self.whole, dice)
        return [Planned(each_s, *body) for each_s, body in zip([0.0] * self.warmups + at_s, bodies, strict=True)]

    def settings(self) -> dict[str, Any]:
        """As `vllm bench serve` writes them."""
        rate: float | str = "inf" if math.isinf(self.rate) else self.rate
        burstiness: float | str = "inf" if math.isinf(self.burstiness) else self.burstiness
        return {
            "workload": self.workload.name,
            "request_rate": rate,
            "burstiness": burstiness,
            "bursts": self.bursts,
            "num_prompts": self.whole,
            "max_concurrency": self.max_concurrency,
            "num_warmups": self.warmups,
            "seed": self.seed,
            "nonce": self.nonce,
        }


def warm_up(endpoint: Endpoint, load: Load) -> None:
    """Have it answer a few requests that count nowhere.

    Raises:
        Unanswered: one of them failed.
    """
    answers = drive(endpoint, load.warming_up(), at_a_time=load.max_concurrency)
    if failed := [answer for answer in answers if not answer.ok]:
        raise Unanswered(f"{endpoint.url} fails at {len(failed)} of {load.warmups} warm-ups: {failed[0].error}")


def measure(endpoint: Endpoint, load: Load, on_answer: Callable[[Answer], None] | None = None) -> list[Answer]:
    """Put the load on the endpoint; the answers in the order in which requests were due."""
    return drive(endpoint, load.planned(), at_a_time=load.max_concurrency, on_answer=on_answer)


def row(endpoint: Endpoint, load: Load, answers: Sequence[Answer], objectives: Objectives | None) -> dict[str, Any]:
    """One flat object with all figures.

    `within_objectives_per_s` counts requests whose first token came in time and none of whose gaps was too long, where
    vLLM's `request_goodput` takes means (TPOT); as there, times are from when a request was sent. `objectives_hold`
    says whether the tails over all requests do, from when they were due.
    """
    done = [answer for answer in answers if answer.ok]
    found: dict[str, Any] = {"model_id": endpoint.model, **load.settings(), **_told(figures(answers))}
    found["total_output_tokens"] = sum(answer.output_tokens for answer in done)
    if all(answer.prompt_tokens is not None for answer in done):
        found["total_input_tokens"] = sum(answer.prompt_tokens or 0 for answer in done)
    if objectives is not None:
        good = sum(_is_good(answer, objectives) for answer in done)
        found |= {
            "ttft_objective_ms": objectives.ttft_ms,
            "itl_objective_ms": objectives.itl_ms,
            "within_objectives_per_s": good / found["duration"],
            "objectives_hold": holds(answers, objectives),
        }
    return found


def _told(found: Mapping[str, float]) -> dict[str, float]:
    """Without percentiles of so few requests that they are the largest; gaps are many more."""
    too_few = [name for name, least in LEAST.items() if found["completed"] < least]
    return {name: value for name, value in found.items() if not name.startswith(tuple(too_few)) or "_itl_" in name}


def _is_good(answer: Answer, objectives: Objectives) -> bool:
    longest_s = max(answer.itls_s, default=0.0)
    return 1000 * answer.ttft_s <= objectives.ttft_ms and 1000 * longest_s <= objectives.itl_ms


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """What a person reads of a row."""
    table = Table(title=f"{found['workload']} at {found['request_rate']} requests/s", show_header=False)
    for name, said in THROUGHPUTS.items():
        if name in found:
            table.add_row(said, f"{found[name]:,.2f}".removesuffix(".00"))
    if "objectives_hold" in found:
        table.add_row(
            "tails within objectives, from when requests were due", "yes" if found["objectives_hold"] else "no"
        )
    yield table
    times = Table("ms", *STATISTICS, title="times (– where too few samples)")
    for name, said in TIMES.items():
        cells = [found.get(f"{statistic}_{name}_ms") for statistic in STATISTICS]
        times.add_row(said, *("–" if cell is None else f"{cell:.1f}" for cell in cells))
    yield times
