"""From the answers of a comparison to its report: rows of figures, and the few to quote. Pure."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.load.answers import Answer
from bench.load.figures import figures
from bench.load.goodput import Objectives
from bench.load.prices import Prices, tokens_per_dollar
from bench.load.slopes import Interval
from bench.percentiles import named, percentile
from bench.serve.measured import Contest, Measured, Side
from bench.serve.reach import Bound, Ratio, over_rounds
from bench.serve.regions import SIGNS, grids, loses, spread, told
from bench.topologies.arrangement import Arrangement

IN_HEADLINE = {Arrangement.SPLIT: "split", Arrangement.SPLIT_STEAL: "split_steal"}
IN_NAMES = {Bound.NONE: "", Bound.AT_LEAST: "_at_least", Bound.AT_MOST: "_at_most"}
TTFT_OF = "1img"  # whose times to the first token are in the headline
TAILS = ((20, 0.95), (10, 0.9))  # from how many samples on which share is told

Row = dict[str, Any]


def best_monolithic(contest: Contest, objectives: Objectives) -> Side | None:
    """That of the highest goodput, and one of which that may be higher before all others; None where no monolithic
    arrangement was measured.
    """
    sides = [side for side in contest.sides.values() if side.monolithic]

    def reached(side: Side) -> tuple[bool, float]:
        climb = contest.climbs[side.name]
        return climb.is_open(objectives), climb.goodput(objectives)

    return max(sides, key=reached, default=None)


def against_best(contest: Contest, name: str, objectives: Objectives) -> Ratio | None:
    """The goodput of that arrangement to the best monolithic one's, if both were measured and it can be told."""
    best = best_monolithic(contest, objectives)
    if best is None or name not in contest.sides:
        return None
    return contest.climbs[name].against(contest.climbs[best.name], objectives)


def wait_ratio(contest: Contest, name: str) -> Ratio | None:
    """Median time to first token under the lightest load, to the quickest monolithic arrangement's.

    Its interval is from what it would be without each round, ours and theirs.
    """
    mono = [side for side in contest.sides.values() if side.monolithic and contest.waits_ms(side.pooled)]
    quickest = min(mono, key=lambda side: statistics.median(contest.waits_ms(side.pooled)), default=None)
    if quickest is None or name not in contest.sides or not contest.waits_ms(contest.sides[name].pooled):
        return None
    ours = [contest.waits_ms(each) for each in contest.sides[name].rounds]
    theirs = [contest.waits_ms(each) for each in quickest.rounds]
    others = [_medians([*ours[:n], *ours[n + 1 :]], [*theirs[:n], *theirs[n + 1 :]]) for n in range(len(ours))]
    value = statistics.median(contest.waits_ms(contest.sides[name].pooled))
    value /= statistics.median(contest.waits_ms(quickest.pooled))
    kept = [each for each in others if each is not None]
    return Ratio(value, over_rounds(value, kept))


def _medians(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float | None:
    """One's median to the other's, of all rounds together."""
    one, other = ([value for each in rounds for value in each] for rounds in (ours, theirs))
    return statistics.median(one) / statistics.median(other) if one and other else None


def headline(measured: Measured) -> dict[str, float]:
    """The figures to quote. A bound says so in its name; what could not be told is left out."""
    found: dict[str, float] = {}
    for name, short in IN_HEADLINE.items():
        for workload, contest in measured.contests.items():
            ratio = against_best(contest, name, measured.plan.objectives_for(workload))
            if ratio is not None and ratio.bound is not Bound.OPEN:
                found[f"goodput_{short}_vs_mono_{workload}{IN_NAMES[ratio.bound]}"] = ratio.value
    if TTFT_OF in measured.contests and (ratio := wait_ratio(measured.contests[TTFT_OF], Arrangement.SPLIT)):
        found["image_ttft_p50_split_vs_mono"] = ratio.value
    return {name: round(value, 3) for name, value in found.items()}


def rows(measured: Measured, prices: Prices) -> list[Row]:
    """The report's series: `what` says of what each is.

    `summary`: an arrangement under a workload, at the objectives that were asked for. `rate`: the same at one rate, of
    all rounds together: means and medians by the names of `vllm bench serve`, whether it kept up, and what objectives
    are held against, named by percentile: from when a request was due to its first token, and gaps between tokens.
    `goodput`: the same at one pair of objectives of the grid. `grid` and `loses`: see `regions`. `drift`: what an
    arrangement that was measured a second time answered when many came at once, to what it did at first.
    """
    found: list[Row] = []
    for contest in measured.contests.values():
        found += _drifts(contest)
        for side in contest.sides.values():
            of = {"workload": contest.workload, "arrangement": side.name}
            curve = [{"what": "goodput", **of, **row} for row in _curve(measured, contest, side)]
            found.append({"what": "summary", **of, **_summary(measured, contest, side, prices)})
            found += ({"what": "rate", **of, **row} for row in _rates(contest, side))
            found += curve
            if side.name in IN_HEADLINE:
                found += ({"what": "grid", **of, **row} for row in grids(curve))
                found.append({"what": "loses", **of, **loses(curve)})
    return found


def _drifts(contest: Contest) -> Iterator[Row]:
    for side in contest.again.values():
        of = {"what": "drift", "workload": contest.workload, "arrangement": side.arrangement, "again": side.name}
        yield _rounded(of | _bursts("burst_vs_first", side, contest.sides[side.arrangement]))


def _bursts(name: str, side: Side, other: Side) -> Row:
    """What one answers when many come at once, to what another does."""
    ratio = side.most / other.most
    others = [side.without(n) / other.without(n) for n in range(len(side.bursts)) if len(side.bursts) > 1]
    return {name: ratio, **_bounds(name, over_rounds(ratio, others))}


def _summary(measured: Measured, contest: Contest, side: Side, prices: Prices) -> Row:
    objectives = measured.plan.objectives_for(contest.workload)
    tokens_per_s = statistics.mean(figures(burst).get("output_throughput", 0.0) for burst in side.bursts)
    answered = [answer for rung in side.pooled.values() for answer in rung.answers if answer.ok]
    tokens = statistics.mean(answer.output_tokens for answer in answered) if answered else 0.0
    row: Row = {
        "rounds": len(side.rounds),
        "requests": len(answered),
        "burst_requests_per_s": side.most,
        "burst_failed": sum(not answer.ok for burst in side.bursts for answer in burst),
        "burst_output_tokens_per_s": tokens_per_s,
        **_busy(side),
        **_goodput(contest, side, objectives),
        "goodput_output_tokens_per_s": contest.climbs[side.name].goodput(objectives) * tokens,
        **_waits(contest, side),
    }
    if side.name in prices.arrangements:
        price = prices.per_hour(side.name)
        row |= {
            "price_per_hour": price,
            "burst_tokens_per_dollar": tokens_per_dollar(row["burst_output_tokens_per_s"], price),
            "goodput_tokens_per_dollar": tokens_per_dollar(row["goodput_output_tokens_per_s"], price),
        }
        row["goodput_tokens_per_dollar_told"] = f"{_sign(row)}{row['goodput_tokens_per_dollar']:,.0f}"
    mono = [each for each in contest.sides.values() if each.monolithic]
    best = max(mono, key=lambda each: each.most, default=side)
    if side is not best:
        row |= _bursts("burst_vs_best_mono", side, best)
    row["goodput_told"] = (
        _sign(row) + spread(row["goodput_per_s"], row.get("goodput_low_per_s"), row.get("goodput_high_per_s"))
        if row["goodput_per_s"]
        else f"< {contest.lightest:.2f}"  # the objectives are broken at the lowest rate that was measured
    )
    return _rounded(row | _against(contest, side, objectives))


def _busy(side: Side) -> Row:
    """How busy the cores of the halves were while many requests came at once; of a server that was there, who knows."""
    if not side.busy or side.arrangement not in list(Arrangement):
        return {}
    encoders, decoders = (statistics.mean(shares) for shares in zip(*side.busy, strict=True))
    return {"burst_encoder_cores_busy": encoders, "burst_decoder_cores_busy": decoders}


def _goodput(contest: Contest, side: Side, objectives: Objectives) -> Row:
    climb = contest.climbs[side.name]
    return {
        "ttft_objective_ms": objectives.ttft_ms,
        "itl_objective_ms": objectives.itl_ms,
        "percentiles": str(contest.shares),
        "goodput_per_s": climb.goodput(objectives),
        **_bounds("goodput", climb.interval(objectives), "_per_s"),
        "goodput_at_least": climb.is_open(objectives),
        "goodput_decided_by": "at once" if climb.is_at_once(objectives) else "rates",
    }


def _sign(row: Row) -> str:
    return SIGNS[Bound.AT_LEAST] if row["goodput_at_least"] else ""


def _bounds(name: str, interval: Interval | None, unit: str = "") -> Row:
    """Of its 95 % interval, if there is one; nothing here can be negative."""
    if interval is None:
        return {}
    return {f"{name}_low{unit}": max(0.0, interval.low), f"{name}_high{unit}": interval.high}


def _waits(contest: Contest, side: Side) -> Row:
    """Under the lightest load; of requests with images, where the workload has any."""
    times_ms = contest.waits_ms(side.pooled)
    row: Row = {"light_requests": len(times_ms)}
    if times_ms:
        tail, tail_ms = tail_of(times_ms)
        row |= {
            "light_ttft_p50_ms": statistics.median(times_ms),
            "light_ttft_tail": tail,
            "light_ttft_tail_ms": tail_ms,
        }
    if not side.monolithic and (ratio := wait_ratio(contest, side.name)):
        row |= {
            "light_ttft_p50_vs_mono": ratio.value,
            **_bounds("light_ttft_p50_vs_mono", ratio.interval),
        }
    return row


def tail_of(samples: Sequence[float]) -> tuple[str, float]:
    """The highest percentile that so many tell, and what it is called; of a few, the largest."""
    for least, share in TAILS:
        if len(samples) >= least:
            return named(share), percentile(samples, share)
    return f"max of {len(samples)}", max(samples)


def _against(contest: Contest, side: Side, objectives: Objectives) -> Row:
    """Its goodput to the best monolithic arrangement's."""
    best = best_monolithic(contest, objectives)
    if best is None or side.monolithic:
        return {}
    ratio = contest.climbs[side.name].against(contest.climbs[best.name], objectives)
    if ratio is None:
        return {}
    return {
        "best_mono": best.name,
        "vs_best_mono": ratio.value,
        **_bounds("vs_best_mono", ratio.interval),
        "vs_best_mono_bound": ratio.bound.value,
        "vs_best_mono_told": told(ratio.value, ratio.bound),
    }


def _rates(contest: Contest, side: Side) -> Iterator[Row]:
    for rate, rung in side.pooled.items():
        # From when the first was due to the end of the last, in each round: what pauses between rounds is not in it.
        seconds = sum(_span_s(each[rate].answers) for each in side.rounds)
        medians = [figures(each[rate].answers).get("median_ttft_ms") for each in side.rounds]
        medians_ms = [median for median in medians if median is not None]
        tails, shares = contest.climbs[side.name].seen(rate).tails, contest.shares
        row: Row = {
            "rate_per_s": rate,
            "share_of_capacity": rate / contest.capacity,
            "requests": len(rung.answers),
            "keeps_up": rung.keeps_up,
            "backlog_growth": rung.after - rung.before,
            # Percentiles come below, by the rule by which they are held against objectives: another one interpolates.
            **{name: v for name, v in figures(rung.answers, seconds=seconds).items() if not name.startswith("p9")},
        }
        if tails.ttft_ms is not None:
            row[f"{named(shares.ttft)}_due_to_first_token_ms"] = tails.ttft_ms
        if tails.itl_ms is not None:
            row[f"{named(shares.itl)}_token_gap_ms"] = tails.itl_ms
        if medians_ms:
            row |= {"median_ttft_least_ms": min(medians_ms), "median_ttft_most_ms": max(medians_ms)}
        yield _rounded(row)


def _span_s(answers: Sequence[Answer]) -> float:
    return max(answer.ended_s for answer in answers) - min(answer.due_s for answer in answers)


def _curve(measured: Measured, contest: Contest, side: Side) -> Iterator[Row]:
    for objectives in measured.plan.grid(contest.workload):
        yield _rounded(_goodput(contest, side, objectives) | _against(contest, side, objectives))


def _rounded(row: Mapping[str, Any]) -> Row:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
