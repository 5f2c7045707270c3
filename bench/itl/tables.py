"""What people read of findings, on a terminal and on the page alike. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.itl.findings import Findings
from bench.itl.points import Row
from bench.percentiles import named

SHARES = tuple(named(share) for share in (0.95, 0.99))  # of tails: which one there is depends on how many samples


@dataclass(frozen=True)
class Sheet:
    """A table; cells are text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets(found: Findings) -> list[Sheet]:
    """All there is to tell but for single slots."""
    made = [_bystanders(found.points), _carriers(found.points), _slopes(found)]
    if found.growths:
        made.append(_growths(found.growths))
    if found.tails:
        made.append(_tails(found.tails))
    if found.left_out:
        made.append(_left_out(found.left_out))
    return made


def as_table(sheet: Sheet) -> Table:
    """For a terminal."""
    table = Table(title=sheet.title, title_justify="left")
    for number, column in enumerate(sheet.columns):
        text = all(not row[number][:1].isdigit() for row in sheet.rows)
        table.add_column(column, justify="left" if text else "right", overflow="fold")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def tail_of(row: Row, name: str) -> tuple[str, float] | None:
    """Which tail that figure has in a row, and how large it is in ms; None without samples."""
    return next(((share, row[f"{name}_{share}_ms"]) for share in SHARES if f"{name}_{share}_ms" in row), None)


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
    return Sheet("Bystanders beside carriers (ms; stall: of each, by one carrier; tail: p95, or p99)", columns, rows)


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
    return Sheet("Carriers (ms; KV cache: what one takes of it at its end)", columns, rows)


def _slopes(found: Findings) -> Sheet:
    rows = [[row["of"], row["side"], row["kind"], f"{row['value']:.2f} ms", _bounds(row)] for row in found.slopes]
    rows += [[row["of"], row["side"], row["kind"], f"{row['value']:.3f} x", _bounds(row)] for row in found.ratios]
    return Sheet("Slopes: ms by 1,000 prompt tokens, and their ratios", ["of", "side", "kind", "", "95 %"], rows)


def _growths(rows: Sequence[Row]) -> Sheet:
    columns = ["side", "verdict", "stall at", "because"]
    return Sheet(
        "How the stall by 1,000 image tokens grows with the number of bystanders",
        columns,
        [[row["side"], row["verdict"], _stalls(row), row["why"]] for row in rows],
    )


def _stalls(row: Row) -> str:
    prefix = "stall_ms_at_"
    return ", ".join(f"{key.removeprefix(prefix)}: {ms:,.0f} ms" for key, ms in row.items() if key.startswith(prefix))


def _tails(rows: Sequence[Row]) -> Sheet:
    columns = ["side", "against", "during", "tail", "ms", "against ms", "ratio", "without any one block"]
    told = [
        [
            row["side"],
            row["against"],
            row["carriers"],
            row["percentile"],
            _ms(row["ms"]),
            _ms(row["against_ms"]),
            f"{row['ratio']:.2f} x",
            "–" if row["lowest_without_a_block"] is None else _range(row),
        ]
        for row in rows
    ]
    return Sheet("Inter-token latency of bystanders during bursts of pictures", columns, told)


def _range(row: Row) -> str:
    return f"{row['lowest_without_a_block']:.2f} to {row['highest_without_a_block']:.2f}"


def _left_out(rows: Sequence[Row]) -> Sheet:
    told = [[row["side"], str(row["block"]), str(row["streams"]), row["carriers"], row["fault"]] for row in rows]
    return Sheet("Left out", ["side", "block", "beside", "carriers", "because"], told)


def _bounds(row: Row) -> str:
    return f"{row['low']:.3g} to {row['high']:.3g}" if "low" in row else "–"


def _spread(row: Row, name: str) -> list[str]:
    tail = tail_of(row, name)
    return [_ms(row.get(f"{name}_{share}_ms")) for share in ("p50", "p90")] + [_ms(tail[1]) if tail else "–"]


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
