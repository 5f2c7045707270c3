"""Rows of single points and of single slots. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.itl import fits
from bench.itl.slots import Seen
from bench.percentiles import P99_FROM, named, percentile

LEAST_SAMPLES = {0.5: 1, 0.9: 10, 0.95: 20, 0.99: P99_FROM}  # so many are needed for a share of them to be told

Row = Mapping[str, Any]


def groups(slots: Sequence[Seen]) -> list[list[Seen]]:
    """All blocks of one point together, in the order of the plan."""
    groups: dict[tuple[str, str, str], list[Seen]] = {}
    for one in slots:
        groups.setdefault((one.drive.name, one.slot.name, one.side), []).append(one)
    order = {slot.name: place for one in slots for place, slot in enumerate(one.drive.slots)}
    return [groups[key] for key in sorted(groups, key=lambda key: (groups[key][0].drive.streams, order[key[1]]))]


def point(group: Sequence[Seen], kv_token_bytes: int | None) -> Row:
    """Of one point: medians over the blocks that count, and percentiles of all their samples together."""
    one = group[0]
    whole = [each for each in group if each.fault is None]
    carriers = [answer for each in whole for answer in each.carriers]
    bystanders = [answer for each in whole for answer in each.bystanders]
    means = [fits.mean_itl_ms(each) for each in whole]
    stalls = [ms for each in whole if (ms := fits.stall_ms(each)) is not None]
    row: dict[str, Any] = {
        "side": one.side,
        "drive": one.drive.name,
        "streams": one.drive.streams,
        "slot_s": one.drive.slot_s,
        "carriers": one.slot.name,
        "kind": str(one.slot.kind) if one.slot.load.pictures else "",
        "pictures": one.slot.load.pictures,
        "picture_side": one.slot.load.side,
        "at_once": one.slot.carriers,
        "tokens": round(statistics.median(each.tokens for each in whole or group)),  # of each carrier
        "blocks": len(whole),
        "left_out": len(group) - len(whole),
        "bystanders_running": _median([each.running for each in whole], 2),
        "bystander_itl_mean_ms": _median(means),
        "bystander_itl_mean_lowest_ms": round(min(means), 2) if means else None,
        "bystander_itl_mean_highest_ms": round(max(means), 2) if means else None,
        "stall_ms": _median(stalls),
        **_spread("bystander_itl", [gap for each in whole for gap in each.gaps_s]),
        **_spread("bystander_ttft", [answer.ttft_s for answer in bystanders]),
        **_spread("bystander_tpot", [tpot_s for answer in bystanders if (tpot_s := answer.tpot_s) is not None]),
        **_spread("carrier_itl", [gap for answer in carriers for gap in answer.gaps_s]),
        **_spread("carrier_ttft", [answer.ttft_s for answer in carriers]),
        **_spread("carrier_tpot", [tpot_s for answer in carriers if (tpot_s := answer.tpot_s) is not None]),
        "max_late_ms": round(1000 * max((a.late_s for a in (*carriers, *bystanders)), default=0.0), 1),
    }
    if kv_token_bytes is not None and carriers:
        # An answer's last token is not kept.
        kept = max((answer.prompt_tokens or 0) + answer.output_tokens - 1 for answer in carriers)
        row["carrier_kv_bytes"] = kept * kv_token_bytes
    return row


def slot_row(one: Seen) -> Row:
    """Of one slot: what everything else is made of."""
    stall_ms = fits.stall_ms(one) if one.gaps else None
    return {
        "side": one.side,
        "block": one.block,
        "drive": one.drive.name,
        "carriers": one.slot.name,
        "tokens": one.tokens,
        "bystander_itl_mean_ms": round(fits.mean_itl_ms(one), 2) if one.gaps else None,
        "bystander_itl_base_ms": None if one.base_s is None else round(1000 * one.base_s, 2),
        "stall_ms": None if stall_ms is None else round(stall_ms, 1),
        "carrier_ttft_ms": [round(1000 * answer.ttft_s, 1) for answer in one.carriers if answer.ok],
        "carrier_tpot_ms": [round(1000 * (answer.tpot_s or 0.0), 2) for answer in one.carriers if answer.ok],
        "fault": one.fault,
    }


def _median(values: Sequence[float], digits: int = 2) -> float | None:
    return round(statistics.median(values), digits) if values else None


def _spread(name: str, values_s: Sequence[float]) -> dict[str, float]:
    """The shares that so many samples tell, the longest, and how many there are."""
    if not values_s:
        return {}
    told = [share for share, least in LEAST_SAMPLES.items() if len(values_s) >= least]
    spread = {f"{name}_{named(share)}_ms": round(1000 * percentile(values_s, share), 2) for share in told}
    return spread | {f"{name}_max_ms": round(1000 * max(values_s), 2), f"{name}_n": len(values_s)}
