"""What a person reads of a comparison."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.serve.reach import Bound
from bench.serve.regions import NONE, OPEN, SIGNS, spread

Row = Mapping[str, Any]


def summaries(series: Sequence[Row]) -> Iterator[Table]:
    """For each workload a table with a line for each arrangement."""
    found = [row for row in series if row["what"] == "summary"]
    for workload in dict.fromkeys(row["workload"] for row in found):
        rows = [row for row in found if row["workload"] == workload]
        first = rows[0]
        table = Table(
            title=f"{workload}: goodput within TTFT {first['ttft_objective_ms']:g} ms and ITL "
            f"{first['itl_objective_ms']:g} ms, {first['percentiles']}"
        )
        table.add_column("arrangement")
        rates = ("at once, req/s", "to mono", "goodput, req/s", "to best mono", "which is", "tokens/$")
        for column in ("rounds", *rates):
            table.add_column(column, justify="right")
        for column in ("TTFT P50 ms", "tail", "of", "to mono"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(row["arrangement"], *_cells(row))
        yield table


def _cells(row: Row) -> Iterator[str]:
    yield str(row["rounds"])
    yield f"{row['burst_requests_per_s']:.2f}"
    yield _ratio(row, "burst_vs_best_mono")
    yield row["goodput_told"]
    yield _ratio(row, "vs_best_mono")
    yield row.get("best_mono", NONE)
    yield row.get("goodput_tokens_per_dollar_told", NONE)
    timed = "light_ttft_p50_ms" in row
    yield f"{row['light_ttft_p50_ms']:.0f}" if timed else NONE
    yield f"{row['light_ttft_tail']} {row['light_ttft_tail_ms']:.0f}" if timed else NONE
    yield str(row["light_requests"])
    yield _ratio(row, "light_ttft_p50_vs_mono")


def _ratio(row: Row, name: str) -> str:
    bound = Bound(row.get(f"{name}_bound", ""))
    if name not in row or bound is Bound.OPEN:
        return OPEN if name in row else NONE
    return SIGNS[bound] + spread(row[name], row.get(f"{name}_low"), row.get(f"{name}_high"))


def ratio_grids(series: Sequence[Row], arrangement: str) -> Iterator[Table]:
    """For each workload, the arrangement's goodput to the best monolithic one's over the grid of objectives."""
    found = [row for row in series if row["what"] == "grid" and row["arrangement"] == arrangement]
    for workload in dict.fromkeys(row["workload"] for row in found):
        rows = [row for row in found if row["workload"] == workload]
        table = Table(title=f"{workload}: goodput of {arrangement} to the best monolithic arrangement's")
        table.add_column("TTFT ≤")
        names = [name for name in rows[0] if name.startswith("itl_")]
        for name in names:
            table.add_column(f"ITL ≤ {name.split('_')[1]} ms", justify="right")
        for row in rows:
            table.add_row(f"{row['ttft_objective_ms']:g} ms", *(row[name] for name in names))
        yield table


def drifts(series: Sequence[Row]) -> Iterator[Table]:
    """One, if anything was measured a second time, with what the machine made of that."""
    found = [row for row in series if row["what"] == "drift"]
    if found:
        table = Table("again", "workload", "at once, to the first time", title="How the machine has drifted")
        for row in found:
            table.add_row(row["again"], row["workload"], _ratio(row, "burst_vs_first"))
        yield table


LEGEND = (
    "In parentheses: 95 % intervals over the rounds; bounds have none. At once: to the most of any monolithic "
    "arrangement.\nTTFT: of requests with images, at the lowest rate, from when they were due, to the quickest "
    "monolithic arrangement's.\n≥ and ≤: one of the two lies beyond the ladder of rates; both: keep the objectives at "
    "all rates; –: neither does even at the lowest rate, or was not measured."
)
