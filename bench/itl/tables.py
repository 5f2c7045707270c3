"""What people read of findings, on a terminal and on the page alike. Pure."""

from collections.abc import Sequence

from bench.itl.findings import Findings
from bench.itl.points import LEAST_SAMPLES, Row
from bench.percentiles import named
from bench.sheets import Sheet

_TAIL = "tail: p99 from 1,000 samples on, p95 from 20, else the longest"
SHARES = tuple(named(share) for share in sorted(LEAST_SAMPLES, reverse=True) if share > 0.9)


def sheets(found: Findings) -> list[Sheet]:
    """All there is to tell but for single slots."""
    made = [_bystanders(found.points), _carriers(found.points), _slopes(found)]
    if found.growths:
        made.append(_growths(found.growths))
    if found.tails:
        made.append(_tails(found.tails))
    if found.ttfts:
        made.append(_ttfts(found.ttfts))
    if found.left_out:
        made.append(_left_out(found.left_out))
    return made


def _bystanders(points: Sequence[Row]) -> Sheet:
    columns = ["side", "beside", "carriers", "tokens", "ITL mean", "its blocks", "p50", "p90", "tail", "stall"]
    columns += ["TTFT p50", "p90", "tail", "TPOT p50", "p90", "tail"]
    rows = [
        [
            row["side"],
            str(row["streams"]),
            row["carriers"],
            f"{row['tokens']:,}",
            _ms(row["bystander_itl_mean_ms"]),
            f"{_ms(row['bystander_itl_mean_lowest_ms'])}–{_ms(row['bystander_itl_mean_highest_ms'])}",
            *_spread(row, "bystander_itl"),
            _ms(row["stall_ms"]),
            *_spread(row, "bystander_ttft"),
            *_spread(row, "bystander_tpot"),
        ]
        for row in points
    ]
    title = f"Bystanders beside carriers (ms; stall: what is added to the ITLs of each; {_TAIL})"
    return Sheet(title, columns, rows)


def _carriers(points: Sequence[Row]) -> Sheet:
    columns = ["side", "beside", "carriers", "tokens", "TTFT p50", "p90", "tail", "TPOT p50", "p90", "tail"]
    columns += ["ITL p50", "p90", "tail", "KV cache"]
    rows = [
        [
            row["side"],
            str(row["streams"]),
            row["carriers"],
            f"{row['tokens']:,}",
            *_spread(row, "carrier_ttft"),
            *_spread(row, "carrier_tpot"),
            *_spread(row, "carrier_itl"),
            f"{row['carrier_kv_bytes'] / 1e6:.2f} MB" if "carrier_kv_bytes" in row else "–",
        ]
        for row in points
    ]
    return Sheet(f"Carriers (ms; KV cache: what one takes of it at its end; {_TAIL})", columns, rows)


def _slopes(found: Findings) -> Sheet:
    columns = ["of", "side", "kind", "", "95 %", "blocks", "slots lost"]
    rows = [[*_which(row), f"{row['value']:.2f} ms", *_sure(row)] for row in found.slopes]
    rows += [[*_which(row), f"{row['value']:.3f} x", *_sure(row)] for row in found.ratios]
    return Sheet("Slopes: ms by 1,000 prompt tokens, and their ratios", columns, rows)


def _which(row: Row) -> list[str]:
    return [row["of"], row["side"], row["kind"]]


def _sure(row: Row) -> list[str]:
    return [_bounds(row), str(len(row["blocks"])), _lost(row)]


def _lost(row: Row) -> str:
    return f"{row['lost']} of {row['slots']}"


def _growths(rows: Sequence[Row]) -> Sheet:
    columns = ["side", "of each", "verdict", "added by", "because", "blocks", "slots lost"]
    told = [
        [
            *(row[name] for name in ("side", "load", "verdict")),
            _stalls(row),
            row["why"],
            str(row["whole_blocks"]),
            _lost(row),
        ]
        for row in rows
    ]
    return Sheet("How what is added to ITLs grows with the number of image requests at once", columns, told)


def _stalls(row: Row) -> str:
    prefix = "stall_ms_of_"
    return ", ".join(f"{key.removeprefix(prefix)}: {ms:,.0f} ms" for key, ms in row.items() if key.startswith(prefix))


def _tails(rows: Sequence[Row]) -> Sheet:
    columns = ["side", "against", "during", "", "ms", "against", "ratio", "95 %", "gaps"]
    columns += ["longest", "against", "ratio", "95 %", "blocks", "overloaded"]
    told = [
        [
            row["side"],
            row["against"],
            row["carriers"],
            row["percentile"].upper(),
            _ms(row["high_ms"]),
            _ms(row["against_high_ms"]),
            f"{row['ratio']:.2f} x",
            _bounds(row),
            f"{row['samples']:,}, {row['against_samples']:,}",
            _ms(row["longest_ms"]),
            _ms(row["against_longest_ms"]),
            f"{row['longest_value']:.2f} x" if "longest_value" in row else "–",
            _bounds(row, "longest_"),
            str(row["pairs"]),
            f"{row['overloaded']}, {row['against_overloaded']}",
        ]
        for row in rows
    ]
    return Sheet("ITL of bystanders while pictures are computed (ms; longest: gap of a stream, mean)", columns, told)


def _ttfts(rows: Sequence[Row]) -> Sheet:
    columns = ["side", "against", "carriers", "p50", "against", "ratio", "95 %", "blocks", "slots lost"]
    told = [
        [
            row["side"],
            row["against"],
            row["carriers"],
            _ms(row["p50_ms"]),
            _ms(row["against_p50_ms"]),
            f"{row['value']:.2f} x",
            *_sure(row),
        ]
        for row in rows
    ]
    return Sheet("Time to first token of carriers with pictures (ms)", columns, told)


def _left_out(rows: Sequence[Row]) -> Sheet:
    told = [[row["side"], str(row["block"]), row["drive"], row["carriers"], row["fault"]] for row in rows]
    return Sheet("Left out", ["side", "block", "drive", "carriers", "because"], told)


def _bounds(row: Row, of: str = "") -> str:
    return f"{row[f'{of}low']:.3g} to {row[f'{of}high']:.3g}" if f"{of}low" in row else "–"


def _spread(row: Row, name: str) -> list[str]:
    """p50, p90, and the highest share that so many samples tell, or the longest of them."""
    return [_ms(row.get(f"{name}_{share}_ms")) for share in ("p50", "p90")] + [_tail(row, name)]


def _tail(row: Row, name: str) -> str:
    if f"{name}_n" not in row:
        return "–"
    share = next((share for share in SHARES if f"{name}_{share}_ms" in row), None)
    if share is None:
        return f"{_ms(row[f'{name}_max_ms'])} (max of {row[f'{name}_n']})"
    return f"{_ms(row[f'{name}_{share}_ms'])} ({share})"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
