"""A diagnosis as figures for a file: a headline, and a flat row for all that was measured. Pure."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from bench.diagnosis.show import Report
from bench.load.slopes import Interval


def headline(report: Report) -> dict[str, float]:
    """Slopes in ms per 1,000 tokens; gaps in ms."""
    found = report.found
    figures = {
        "slope_image_tokens": found.picture.value,
        "slope_text_tokens": found.text.value,
        "slope_encode": found.encode.value,
        "longest_gap_ms": found.judged.picture.longest.value,
        "longest_gap_after_split_ms": found.judged.text.longest.value,
        "gap_alone_ms": found.gap_ms,
        "sweeps": len(found.sweeps),
    }
    return figures if found.share is None else {**figures, "encode_share": found.share.value}


def series(report: Report) -> list[dict[str, Any]]:
    """What each row is of, its `what` says."""
    found = report.found
    rows = [
        {
            "what": "verdict",
            "advice": report.verdict.advice.name.lower(),
            "why": report.verdict.why,
            "objective_ms": report.objective_ms,
            "vllm_metrics": report.page is not None,
        },
        *_slopes(report),
        *_points(report),
        *_phases(report),
        *_kv(report),
    ]
    if report.together is not None:
        rows += [{"what": "at once", **asdict(row)} for row in report.together.rows]
        for name, grown in (("behind_ms", report.together.behind), ("longest_ms", report.together.longest)):
            rows.append({"what": "growth", "of": name, "growth": grown.growth, "why": grown.why})
    if found.clock is not None:
        clock = _bounds("picture_ms", found.clock.picture) | _bounds("text_ms", found.clock.text)
        rows.append({"what": "vllm clock", **clock, "queued_ms": found.clock.queued})
    return rows


def _slopes(report: Report) -> Iterator[dict[str, Any]]:
    found = report.found
    named = {"image": found.picture, "text": found.text, "encode": found.encode, "share": found.share}
    for name, interval in named.items():
        if interval is not None:
            yield {"what": "slope", "of": name, **_bounds("value", interval)}
    yield {"what": "encode's part of the longest gap", **_bounds("ms", found.cut)}


def _points(report: Report) -> Iterator[dict[str, Any]]:
    for number, sweep in enumerate(report.found.sweeps):
        for (kind, rung), point in sorted(sweep.items()):
            yield {
                "what": "point",
                "sweep": number,
                "kind": kind,
                "width": report.found.rungs[rung].rung.size[0],
                "height": report.found.rungs[rung].rung.size[1],
                "pictures": report.found.rungs[rung].rung.pictures,
                "tokens": point.carried.tokens,
                "behind_ms": point.stall.behind_ms,
                "longest_ms": point.stall.longest_ms,
                "ttft_ms": point.carried.ttft_ms,
                "vllm_prefill_ms": point.carried.prefill_ms,
            }


def _phases(report: Report) -> Iterator[dict[str, Any]]:
    shares = report.phases
    for name in ("preparation", "encode", "prefill", "rest"):
        interval: Interval = getattr(shares, name)
        yield {"what": "phase", "of": name, **_bounds("ms", interval), "part": interval.value / shares.total_ms}
    yield {"what": "phase", "of": "decode", "ms": shares.decode, "part": shares.decode / shares.total_ms}


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
