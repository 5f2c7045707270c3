"""From the answers of a comparison to its report: rows of figures, and the few to quote. Pure."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.load.answers import Answer
from bench.load.figures import figures
from bench.load.goodput import Objectives
from bench.load.prices import Prices, tokens_per_dollar
from bench.percentiles import percentile
from bench.serve.measured import Contest, Measured, Side
from bench.serve.reach import Ratio
from bench.topologies.arrangement import Arrangement

IN_HEADLINE = {Arrangement.SPLIT: "split", Arrangement.SPLIT_STEAL: "split_steal"}
TTFT_OF = "1img"  # whose times to the first token are in the headline

Row = dict[str, Any]


def best_monolithic(contest: Contest, objectives: Objectives) -> Side | None:
    """That of the highest goodput; None where no monolithic arrangement was measured."""
    sides = [side for side in contest.sides.values() if side.monolithic]
    return max(sides, key=lambda side: side.climb.goodput(objectives), default=None)


def against_best(contest: Contest, name: str, objectives: Objectives) -> Ratio | None:
    """The goodput of that arrangement to the best monolithic one's, if both were measured and it can be told."""
    best = best_monolithic(contest, objectives)
    if best is None or name not in contest.sides:
        return None
    return contest.sides[name].climb.against(best.climb, objectives)


def ttft_ratios(contest: Contest, name: str) -> list[float]:
    """Median time to first token under light load, to the quickest monolithic arrangement's, round by round."""
    quickest = min(
        (side for side in contest.sides.values() if side.monolithic and contest.ttfts_ms(side.pooled)),
        key=lambda side: statistics.median(contest.ttfts_ms(side.pooled)),
        default=None,
    )
    if quickest is None or name not in contest.sides:
        return []
    pairs = zip(contest.sides[name].rounds, quickest.rounds, strict=True)
    times = [(contest.ttfts_ms(ours), contest.ttfts_ms(theirs)) for ours, theirs in pairs]
    return [statistics.median(ours) / statistics.median(theirs) for ours, theirs in times if ours and theirs]


def headline(measured: Measured) -> dict[str, float]:
    """The figures to quote; what could not be told is left out."""
    found: dict[str, float] = {}
    for name, short in IN_HEADLINE.items():
        for workload, contest in measured.contests.items():
            if ratio := against_best(contest, name, measured.plan.objectives):
                percentile = contest.sides[name].climb.percentile
                found[f"goodput_{percentile}_{short}_vs_mono_{workload}"] = ratio.value
    if TTFT_OF in measured.contests and (ratios := ttft_ratios(measured.contests[TTFT_OF], Arrangement.SPLIT)):
        found["image_ttft_p50_split_vs_mono"] = statistics.median(ratios)
    return {name: round(value, 3) for name, value in found.items()}


def rows(measured: Measured, prices: Prices | None) -> list[Row]:
    """The report's series: `what` says of what each is.

    `summary`: an arrangement under a workload, at the objectives that were asked for. `rate`: the same at one rate, of
    all rounds together, by the names of `vllm bench serve`, and what objectives are held against, named by percentile:
    from when a request was due to its first token, and gaps between tokens. `goodput`: the same at one pair of
    objectives of the grid.
    """
    found: list[Row] = []
    for contest in measured.contests.values():
        for side in contest.sides.values():
            named = {"workload": contest.workload, "arrangement": side.name}
            found.append({"what": "summary", **named, **_summary(measured, contest, side, prices)})
            found += ({"what": "rate", **named, **row} for row in _rates(contest, side))
            found += ({"what": "goodput", **named, **row} for row in _curve(measured, contest, side))
    return found


def _summary(measured: Measured, contest: Contest, side: Side, prices: Prices | None) -> Row:
    objectives = measured.plan.objectives
    goodput, without_one = side.climb.goodput(objectives), side.climb.without_one(objectives)
    burst = figures(side.burst)
    answered = [answer for answers in side.pooled.values() for answer in answers if answer.ok]
    tokens = statistics.mean(answer.output_tokens for answer in answered) if answered else 0.0
    row: Row = {
        "ttft_objective_ms": objectives.ttft_ms,
        "itl_objective_ms": objectives.itl_ms,
        "percentile": side.climb.percentile,
        "rounds": len(side.rounds),
        "burst_requests_per_s": burst.get("request_throughput", 0.0),
        "burst_output_tokens_per_s": burst.get("output_throughput", 0.0),
        "goodput_per_s": goodput,
        "goodput_least_per_s": min(without_one),
        "goodput_most_per_s": max(without_one),
        "goodput_at_least": side.climb.holds_at_all(objectives),
        "goodput_output_tokens_per_s": goodput * tokens,
        **_of_ttft(contest, side),
    }
    if prices is not None and side.arrangement in prices.arrangements:
        price = prices.per_hour(side.arrangement)
        row |= {
            "price_per_hour": price,
            "burst_tokens_per_dollar": tokens_per_dollar(row["burst_output_tokens_per_s"], price),
            "goodput_tokens_per_dollar": tokens_per_dollar(row["goodput_output_tokens_per_s"], price),
        }
    return _rounded(row | _against(contest, side, objectives))


def _of_ttft(contest: Contest, side: Side) -> Row:
    """Under light load; of requests with images, where the workload has any."""
    times_ms = contest.ttfts_ms(side.pooled)
    row: Row = {"light_requests": len(times_ms)}
    if times_ms:
        row |= {"light_ttft_p50_ms": statistics.median(times_ms), "light_ttft_p95_ms": percentile(times_ms, 0.95)}
    if ratios := [] if side.monolithic else ttft_ratios(contest, side.name):
        row |= {
            "light_ttft_p50_vs_mono": statistics.median(ratios),
            "light_ttft_p50_vs_mono_least": min(ratios),
            "light_ttft_p50_vs_mono_most": max(ratios),
        }
    return row


def _against(contest: Contest, side: Side, objectives: Objectives) -> Row:
    """Its goodput to the best monolithic arrangement's; of one that is asked again, this tells of drift."""
    best = best_monolithic(contest, objectives)
    ratio = against_best(contest, side.name, objectives)
    if best is None or ratio is None or side.monolithic:
        return {}
    return {
        "best_mono": best.name,
        "vs_best_mono": ratio.value,
        "vs_best_mono_least": ratio.least,
        "vs_best_mono_most": ratio.most,
        "vs_best_mono_bound": ratio.bound.value,
    }


def _rates(contest: Contest, side: Side) -> Iterator[Row]:
    for rate, answers in side.pooled.items():
        # From when the first was due to the end of the last, in each round: what pauses between rounds is not in it.
        seconds = sum(_span_s(each[rate]) for each in side.rounds)
        medians = [figures(each[rate]).get("median_ttft_ms") for each in side.rounds]
        told = [median for median in medians if median is not None]
        seen, share = side.climb.tails(rate), side.climb.percentile
        row: Row = {"rate_per_s": rate, "share_of_capacity": rate / contest.capacity, "requests": len(answers)}
        row |= figures(answers, seconds=seconds)
        for name, tail_ms in (("due_to_first_token", seen.ttft_ms), ("token_gap", seen.itl_ms)):
            if tail_ms is not None:
                row[f"{share}_{name}_ms"] = tail_ms
        if told:
            row |= {"median_ttft_least_ms": min(told), "median_ttft_most_ms": max(told)}
        yield _rounded(row)


def _span_s(answers: Sequence[Answer]) -> float:
    return max(answer.ended_s for answer in answers) - min(answer.due_s for answer in answers)


def _curve(measured: Measured, contest: Contest, side: Side) -> Iterator[Row]:
    for objectives in measured.plan.grid():
        without_one = side.climb.without_one(objectives)
        row: Row = {
            "ttft_objective_ms": objectives.ttft_ms,
            "itl_objective_ms": objectives.itl_ms,
            "percentile": side.climb.percentile,
            "goodput_per_s": side.climb.goodput(objectives),
            "goodput_least_per_s": min(without_one),
            "goodput_most_per_s": max(without_one),
            "goodput_at_least": side.climb.holds_at_all(objectives),
        }
        yield _rounded(row | _against(contest, side, objectives))


def _rounded(row: Mapping[str, Any]) -> Row:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
