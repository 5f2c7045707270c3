"""A diagnosis as figures for a file: a headline, and a flat row for all that was measured. Pure."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from bench.diagnosis.findings import Untold, points, usual_gap_of
from bench.diagnosis.show import Report
from bench.diagnosis.sweeping import PICTURES_AT_ONCE, TEXTS_AT_ONCE, Measured
from bench.load.slopes import Interval

AT_ONCE = PICTURES_AT_ONCE, TEXTS_AT_ONCE


def headline(report: Report) -> dict[str, float]:
    """Slopes in ms per 1,000 tokens; gaps in ms: the longest as means of the sweeps."""
    found = report.found
    figures = {
        "slope_image_tokens": found.picture.value,
        "slope_text_tokens": found.text.value,
        "slope_encode": found.encode.value,
        "longest_gap_ms": found.judged.picture.longest.value,
        "longest_gap_after_split_ms": found.judged.text.longest.value,
        "longest_gap_beside_nothing_ms": found.alone.value,
        "gap_alone_ms": found.gap_ms,
        "piece_tokens": found.piece_tokens,
        "sweeps": len(found.sweeps),
    }
    return figures if found.judged.share is None else {**figures, "encode_share": found.judged.share.value}


def raw(measured: Measured) -> Iterator[dict[str, Any]]:
    """Every point that was measured, also of sweeps and rounds that are not whole, and where nothing can be made of
    them. What streams suffered, each of them, is absent where none was there all the while.
    """
    if measured.traffic is not None:
        yield {"what": "traffic", **asdict(measured.traffic)}
    known = measured.known
    if known is None:
        return
    try:
        gap_s = usual_gap_of(measured)
    except Untold:
        gap_s = known.gap_s
    yield {"what": "streams", "usual_gap_ms": 1000 * gap_s, "piece_tokens": measured.piece_tokens}
    stalls = {point.carried: point.stall for point in points(measured, gap_s)}
    for carried in measured.carried:
        several = carried.kind in AT_ONCE
        carries = known.at_once if several else known.ladder[carried.rung]
        suffered = stalls.get(carried)
        yield {
            "what": "point",
            "sweep": carried.sweep,
            "kind": carried.kind,
            "at_once": carried.rung if several else 1,
            "width": carries.size[0],
            "height": carries.size[1],
            "pictures": carries.pictures,
            "tokens": carried.tokens,
            "begin_s": carried.window[0],
            "end_s": carried.window[1],
            "ttft_ms": carried.ttft_ms,
            "behind_ms": None if suffered is None else list(suffered.behind),
            "longest_ms": None if suffered is None else [max(each) for each in suffered.gaps],
        }


def series(report: Report) -> Iterator[dict[str, Any]]:
    """What was made of it. What each row is of, its `what` says."""
    found = report.found
    yield {
        "what": "verdict",
        "advice": report.verdict.advice.name.lower(),
        "why": report.verdict.why,
        "objective_ms": report.objective_ms,
        "vllm_metrics": report.page is not None,
    }
    for name, interval in {"image": found.picture, "text": found.text, "encode": found.encode}.items():
        yield {"what": "slope", "of": name, **_bounds("value", interval)}
    for name, interval in {
        "longest gap": found.judged.picture.longest,
        "longest gap after a split": found.judged.text.longest,
        "longest gap beside nothing": found.alone,
        "encode's part of the longest gap": found.judged.cut,
        "encode": found.judged.encode,
    }.items():
        yield {"what": "judged", "of": name, **_bounds("ms", interval)}
    for name in ("preparation", "encode", "prefill", "rest"):
        yield {"what": "phase", "of": name, **_bounds("ms", getattr(found.phases, name))}
    yield {"what": "phase", "of": "decode", "ms": found.phases.token * report.answer_tokens}
    yield from _kv(report)
    if found.bursts is not None:
        for name, grown in (("behind_ms", found.bursts.behind), ("longest_ms", found.bursts.longest)):
            yield {"what": "growth", "of": name, "growth": grown.growth, "why": grown.why}


def _kv(report: Report) -> Iterator[dict[str, Any]]:
    for row in report.kv.rows:
        yield {
            "what": "kv",
            "width": row.seen.rung.size[0],
            "height": row.seen.rung.size[1],
            "tokens": row.seen.rung.tokens,
            "token_bytes": report.kv.token_bytes,
            "picture_bytes": row.picture_bytes,
            "request_bytes": row.request_bytes,
            "at_once": row.at_once,
            "cached_tokens": row.cached_tokens,
            "expected_tokens": row.expected_tokens,
        }


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
