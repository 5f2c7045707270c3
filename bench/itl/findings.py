"""What is reported: rows of points, slopes, ratios, growth and tails, and the figures to quote. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.itl import fits
from bench.itl.fits import Fit
from bench.itl.plan import Kind
from bench.itl.points import Row, groups, point, slot_row
from bench.itl.slots import Seen
from bench.itl.tails import Tail, tails
from bench.load.slopes import Interval
from bench.percentiles import named

STALL = "added to a bystander's ITLs"  # by one carrier, whatever the rate at which they come
BYSTANDER_ITL = "bystander mean ITL"  # at that rate
ALONE = "carrier TPOT, one at a time"
IN_BURSTS = "carrier TPOT, in bursts"  # over the tokens of the burst
_MEASURES = {STALL: fits.stall_ms, BYSTANDER_ITL: fits.mean_itl_ms, ALONE: fits.carrier_tpot_ms}


@dataclass(frozen=True)
class Findings:
    """Rows by what they tell of, each flat, as the report's `series` has them."""

    sides: tuple[str, ...]
    points: Sequence[Row]
    slopes: Sequence[Row]  # ms per 1,000 tokens
    ratios: Sequence[Row]  # of slopes
    growths: Sequence[Row]
    tails: Sequence[Row]  # of bystanders' ITL while pictures are computed, and what one side's is to the other's
    ttfts: Sequence[Row]  # of carriers with pictures, and what one side's is to the other's
    slots: Sequence[Row]  # what all of them are made of

    @property
    def series(self) -> list[Row]:
        """All rows; `what` tells them apart."""
        groups = {
            "point": self.points,
            "slope": self.slopes,
            "ratio": self.ratios,
            "growth": self.growths,
            "tail": self.tails,
            "ttft": self.ttfts,
            "slot": self.slots,
        }
        return [{"what": what, **row} for what, rows in groups.items() for row in rows]

    @property
    def left_out(self) -> list[Row]:
        """Slots that have a fault, and which."""
        return [row for row in self.slots if row["fault"]]


def findings(slots: Sequence[Seen], kv_token_bytes: int | None) -> Findings:
    """Of everything that was measured. `kv_token_bytes` is None where nobody tells."""
    sides = tuple(dict.fromkeys(one.side for one in slots))
    return Findings(
        sides,
        [point(group, kv_token_bytes) for group in groups(slots)],
        [row for side in sides for row in _slopes(slots, side)],
        [row for side in sides for row in _ratios(slots, side)],
        [row for side in sides for row in _growths(slots, side)],
        [row for a, b in _against_first(sides) for row in _tails(slots, a, b)],
        [row for a, b in _against_first(sides) for row in _ttfts(slots, b, a)],
        [slot_row(one) for one in slots],
    )


def _slopes(slots: Sequence[Seen], side: str) -> Iterator[Row]:
    for kind in Kind:
        for of, measure in _MEASURES.items():
            if fit := fits.slope(fits.of_kind(slots, side, kind), measure):
                yield {"of": of, "side": side, "kind": str(kind), **_told(fit)}
    if fit := fits.slope(fits.bursts(slots, side), fits.carrier_tpot_ms):
        yield {"of": IN_BURSTS, "side": side, "kind": str(Kind.LIVE), **_told(fit)}


def _ratios(slots: Sequence[Seen], side: str) -> Iterator[Row]:
    for of in (STALL, BYSTANDER_ITL):
        for kind in (Kind.LIVE, Kind.ENCODED):
            if fit := fits.slope_to_text(slots, side, kind, _MEASURES[of]):
                yield {"of": of, "side": side, "kind": f"{kind} : {Kind.TEXT}", **_told(fit)}


def _growths(slots: Sequence[Seen], side: str) -> Iterator[Row]:
    if grown := fits.grown(slots, side):
        by_number = {f"stall_ms_of_{carriers}": round(ms, 1) for carriers, ms in grown.stalls_ms.items()}
        told = {"load": str(grown.load), "verdict": grown.verdict, "why": grown.why, "whole_blocks": grown.blocks}
        told |= {"slots": grown.slots, "lost": grown.lost}
        yield {"side": side, **told, **by_number}


def side_like(sides: Sequence[str], name: str) -> str | None:
    """The side to quote as `split` or `mono`: of several, one with a calibrated prefill chunk, as a split's is."""
    alike = [side for side in sides if side.startswith(name)]
    return next((side for side in alike if side.endswith("calibrated")), alike[0] if alike else None)


def headline(found: Findings) -> dict[str, float]:
    """The figures to quote, less those of too few blocks. An endpoint that was measured alone has no name in them."""
    named_sides = {name: side for name in ("split", "mono") if (side := side_like(found.sides, name))}
    figures: dict[str, float] = {}
    first = named_sides.get("split", found.sides[0])
    for name, kind in (("image", Kind.LIVE), ("encoded_image", Kind.ENCODED)):
        if row := _quoted(found.ratios, of=STALL, side=first, kind=f"{kind} : {Kind.TEXT}"):
            figures[f"bystander_slope_{name}_vs_text_tokens"] = row["value"]
    pair = {"side": named_sides.get("mono"), "against": named_sides.get("split")}
    if row := _largest(row for row in found.tails if row["at_once"] > 1 and row.items() >= pair.items()):
        figures[f"bystander_{row['percentile']}_itl_mono_vs_split"] = row["ratio"]
    for suffix, side in [(f"_{name}", side) for name, side in named_sides.items()] or [("", first)]:
        if row := _quoted(found.slopes, of=IN_BURSTS, side=side, kind=str(Kind.LIVE)):
            figures[f"carrier_slope_ms_per_1k{suffix}"] = row["value"]
    pair = {"side": named_sides.get("split"), "against": named_sides.get("mono")}
    if row := _largest(row for row in found.ttfts if row["at_once"] == 1 and row.items() >= pair.items()):
        figures["largest_image_ttft_p50_split_vs_mono"] = row["value"]
    return {name: round(figure, 3) for name, figure in figures.items()}


def _quoted(rows: Iterable[Row], **like: str) -> Row | None:
    return next((row for row in rows if row["quoted"] and row.items() >= like.items()), None)


def _largest(rows: Iterable[Row]) -> Row | None:
    """That of the most tokens, if it may be quoted; another one would be another figure under its name."""
    row = max(rows, key=lambda row: row["tokens"] * row["at_once"], default=None)
    return row if row is not None and row["quoted"] else None


def _rounded_bounds(interval: Interval | None, digits: int) -> dict[str, float]:
    """Of its 95 % interval, if there is one."""
    return {} if interval is None else {"low": round(interval.low, digits), "high": round(interval.high, digits)}


def _told(fit: Fit) -> dict[str, Any]:
    return {
        "value": round(fit.value, 4),
        **_rounded_bounds(fit.interval, 4),
        "blocks": [round(value, 4) for value in fit.blocks.values()],
        "slots": fit.slots,
        "lost": fit.lost,
        "quoted": fit.is_quotable,
    }


def _against_first(sides: Sequence[str]) -> list[tuple[str, str]]:
    """Each other side with the split, or with the first where there is none."""
    first = side_like(sides, "split") or sides[0]
    return [(side, first) for side in sides if side != first]


def _tails(slots: Sequence[Seen], side: str, against: str) -> Iterator[Row]:
    for one, other in _pictures(slots, side, against):
        if found := tails(one, other):
            yield {
                **_what(one, side, against),
                "percentile": named(found.share),
                "ratio": round(found.ratio, 3),
                **_rounded_bounds(found.interval, 3),
                **_tail(found.one, ""),
                **_tail(found.other, "against_"),
                **_longest(found.longest),
                "pairs": found.pairs,
                "lost": found.lost,
                "quoted": found.is_quotable,
            }


def _tail(tail: Tail, whose: str) -> dict[str, Any]:
    return {
        f"{whose}high_ms": round(tail.high_ms, 1),
        f"{whose}longest_ms": round(tail.longest_ms, 1),
        f"{whose}samples": tail.samples,
        f"{whose}overloaded": tail.overloaded,
    }


def _longest(fit: Fit | None) -> dict[str, Any]:
    told = _told(fit) if fit else {}
    return {f"longest_{name}": told[name] for name in ("value", "low", "high", "blocks") if name in told}


def _ttfts(slots: Sequence[Seen], side: str, against: str) -> Iterator[Row]:
    for one, other in _pictures(slots, side, against):
        p50s = [fits.of_each(mine, fits.carrier_ttft_ms) for mine in (one, other)]
        every = [*one, *other]
        if fit := fits.over(p50s[0], p50s[1], len(every), fits.lost_in(every, fits.carrier_ttft_ms)):
            mine, theirs = (round(median(p50.values()), 1) for p50 in p50s)
            yield {**_what(one, side, against), "p50_ms": mine, "against_p50_ms": theirs, **_told(fit)}


def _pictures(slots: Sequence[Seen], side: str, against: str) -> Iterator[tuple[list[Seen], list[Seen]]]:
    """Of each slot with new pictures, what both sides made of it."""
    live = [one for one in slots if one.slot.kind is Kind.LIVE and one.slot.load.pictures]
    for key in dict.fromkeys((one.drive.name, one.slot) for one in live):
        both = [
            [one for one in live if (one.drive.name, one.slot) == key and one.side == each] for each in (side, against)
        ]
        if all(both):
            yield both[0], both[1]


def _what(slots: Sequence[Seen], side: str, against: str) -> dict[str, Any]:
    """Of the same slot in all blocks. Where none of its carriers was answered, nobody told its tokens."""
    first = slots[0]
    told = {"side": side, "against": against, "drive": first.drive.name, "carriers": first.slot.name}
    return {**told, "at_once": first.slot.carriers, "tokens": max(each.tokens for each in slots)}
