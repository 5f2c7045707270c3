"""What is reported: rows of points, slopes, ratios, growth and tails, and the figures to quote. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.itl import fits
from bench.itl.fits import Fit
from bench.itl.plan import Kind
from bench.itl.points import Row, groups, point, slot_row
from bench.itl.slots import Seen

BYSTANDER_ITL = "bystander mean ITL"  # at the rate at which carriers come
STALL = "bystander stall by a carrier"  # whatever that rate is
ALONE = "carrier TPOT, one at a time"
IN_BURSTS = "carrier TPOT, in bursts"
_MEASURES = {BYSTANDER_ITL: fits.mean_itl_ms, STALL: fits.stall_ms, ALONE: fits.carrier_tpot_ms}


@dataclass(frozen=True)
class Findings:
    """Rows by what they tell of, each flat, as the report's `series` has them."""

    sides: tuple[str, ...]
    points: Sequence[Row]
    slopes: Sequence[Row]  # ms per 1,000 tokens
    ratios: Sequence[Row]  # of slopes
    growths: Sequence[Row]
    tails: Sequence[Row]  # of bystanders' ITL during bursts of pictures, and what one side's is to the other's
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
            "slot": self.slots,
        }
        return [{"what": what, **row} for what, rows in groups.items() for row in rows]

    @property
    def left_out(self) -> list[Row]:
        """Slots that count for nothing, and why."""
        return [row for row in self.slots if row["fault"]]


def findings(slots: Sequence[Seen], kv_token_bytes: int | None) -> Findings:
    """Of everything that was measured. `kv_token_bytes` is None where nobody tells."""
    sides = tuple(dict.fromkeys(one.side for one in slots))
    drive = slots[0].drive.name
    slopes, ratios, growths = [], [], []
    for side in sides:
        for kind in Kind:
            for of, measure in _MEASURES.items():
                if fit := fits.slope(fits.of_kind(slots, side, drive, kind), measure):
                    slopes.append({"of": of, "side": side, "kind": str(kind), **_told(fit)})
        if fit := fits.slope(fits.bursts(slots, side), fits.carrier_tpot_ms):
            slopes.append({"of": IN_BURSTS, "side": side, "kind": str(Kind.LIVE), **_told(fit)})
        for of in (BYSTANDER_ITL, STALL):
            ratios += [
                {"of": of, "side": side, "kind": f"{kind} : {Kind.TEXT}", **_told(fit)}
                for kind in (Kind.LIVE, Kind.ENCODED)
                if (fit := _ratio(slots, side, drive, kind, _MEASURES[of]))
            ]
        if grown := fits.grown(slots, side):
            by_streams = {f"stall_ms_at_{streams}": round(ms, 1) for streams, ms in grown.stalls_ms.items()}
            growths.append({"side": side, "verdict": grown.verdict, "why": grown.why, **by_streams})
    return Findings(
        sides,
        [point(group, kv_token_bytes) for group in groups(slots)],
        slopes,
        ratios,
        growths,
        _tails(slots, sides),
        [slot_row(one) for one in slots],
    )


def _ratio(slots: Sequence[Seen], side: str, drive: str, kind: Kind, measure: fits.Measure) -> Fit | None:
    """The slope of that kind to that of text, each over the loads that came as both."""
    both = [fits.of_kind(slots, side, drive, each) for each in (kind, Kind.TEXT)]
    common = set.intersection(*({one.slot.load for one in found} for found in both))
    like, text = ([one for one in found if one.slot.load in common] for found in both)
    return fits.over(fits.slope(like, measure), fits.slope(text, measure))


def side_like(sides: Sequence[str], name: str) -> str | None:
    """The side to quote as `split` or `mono`: of several, one with a calibrated prefill chunk, as a split's is."""
    alike = [side for side in sides if side.startswith(name)]
    return next((side for side in alike if side.endswith("calibrated")), alike[0] if alike else None)


def headline(found: Findings) -> dict[str, float]:
    """The figures to quote. An endpoint that was measured alone is quoted without a name."""
    named_sides = {name: side for name in ("split", "mono") if (side := side_like(found.sides, name))}
    figures: dict[str, float] = {}
    first = named_sides.get("split", found.sides[0])
    for name, kind in (("image", Kind.LIVE), ("encoded_image", Kind.ENCODED)):
        if row := _row(found.ratios, BYSTANDER_ITL, first, f"{kind} : {Kind.TEXT}"):
            figures[f"bystander_slope_{name}_vs_text_tokens"] = row["value"]
    for row in found.tails:
        if (row["side"], row["against"]) == (named_sides.get("mono"), named_sides.get("split")):
            figures[f"bystander_{row['percentile']}_itl_mono_vs_split"] = row["ratio"]
    for suffix, side in [(f"_{name}", side) for name, side in named_sides.items()] or [("", first)]:
        if row := _row(found.slopes, IN_BURSTS, side, Kind.LIVE):
            figures[f"carrier_slope_ms_per_1k{suffix}"] = row["value"]
    return {name: round(figure, 3) for name, figure in figures.items()}


def _row(rows: Iterable[Row], of: str, side: str, kind: str) -> Row | None:
    return next((row for row in rows if (row["of"], row["side"], row["kind"]) == (of, side, kind)), None)


def _told(fit: Fit) -> dict[str, Any]:
    bounds = {} if fit.interval is None else {"low": fit.interval.low, "high": fit.interval.high}
    blocks = [round(value, 4) for value in fit.blocks.values()]
    return {name: round(value, 4) for name, value in {"value": fit.value, **bounds}.items()} | {"blocks": blocks}


def _tails(slots: Sequence[Seen], sides: Sequence[str]) -> list[Row]:
    """Of each side against the split, or against the first where there is none."""
    against = side_like(sides, "split") or sides[0]
    loaded = {side: [one for one in fits.bursts(slots, side) if one.slot.load.pictures] for side in sides}
    rows: list[Row] = []
    for side in sides:
        if side != against and (found := fits.tails(loaded[side], loaded[against])):
            low, high = found.range or (None, None)
            rows.append(
                {
                    "side": side,
                    "against": against,
                    "carriers": loaded[side][0].slot.name,
                    "percentile": found.percentile,
                    "ms": round(found.ms[0], 1),
                    "against_ms": round(found.ms[1], 1),
                    "ratio": round(found.ratio, 3),
                    "lowest_without_a_block": low and round(low, 3),
                    "highest_without_a_block": high and round(high, 3),
                }
            )
    return rows
