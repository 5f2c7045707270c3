"""What a person reads of a comparison."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from bench.serve.reach import Bound

Row = Mapping[str, Any]

SIGNS = {Bound.NONE: "", Bound.AT_LEAST: "≥ ", Bound.AT_MOST: "≤ ", Bound.OPEN: "~ "}
NONE = "–"


def summaries(series: Sequence[Row]) -> Iterator[Table]:
    """For each workload a table with a line for each arrangement."""
    found = [row for row in series if row["what"] == "summary"]
    for workload in dict.fromkeys(row["workload"] for row in found):
        rows = [row for row in found if row["workload"] == workload]
        first = rows[0]
        table = Table(
            title=f"{workload}: goodput within TTFT {first['ttft_objective_ms']:g} ms and ITL "
            f"{first['itl_objective_ms']:g} ms, {first['percentile'].upper()} of both"
        )
        table.add_column("arrangement")
        for column in ("at once, req/s", "goodput, req/s", "to best mono", "tokens/$", "TTFT P50 ms", "P95", "to mono"):
            table.add_column(column, justify="right")
        for row in rows:
            table.add_row(row["arrangement"], *_cells(row))
        yield table


def _cells(row: Row) -> Iterator[str]:
    yield f"{row['burst_requests_per_s']:.2f}"
    more = "≥ " if row["goodput_at_least"] else ""
    yield more + _spread(row["goodput_per_s"], row["goodput_least_per_s"], row["goodput_most_per_s"])
    yield _ratio(row, "vs_best_mono")
    yield f"{row['goodput_tokens_per_dollar']:,.0f}" if "goodput_tokens_per_dollar" in row else NONE
    for name in ("light_ttft_p50_ms", "light_ttft_p95_ms"):
        yield f"{row[name]:.0f}" if name in row else NONE
    yield _ratio(row, "light_ttft_p50_vs_mono")


def _ratio(row: Row, name: str) -> str:
    if name not in row:
        return NONE
    sign = SIGNS[Bound(row.get(f"{name}_bound", ""))]
    return sign + _spread(row[name], row[f"{name}_least"], row[f"{name}_most"])


def _spread(value: float, least: float, most: float) -> str:
    return f"{value:.2f}" if least == most else f"{value:.2f} ({least:.2f}–{most:.2f})"


def ratio_grids(series: Sequence[Row], arrangement: str) -> Iterator[Table]:
    """For each workload, the arrangement's goodput to the best monolithic one's over the grid of objectives."""
    found = [row for row in series if row["what"] == "goodput" and row["arrangement"] == arrangement]
    for workload in dict.fromkeys(row["workload"] for row in found):
        rows = [row for row in found if row["workload"] == workload]
        table = Table(title=f"{workload}: goodput of {arrangement} to the best monolithic arrangement's")
        table.add_column(f"{rows[0]['percentile'].upper()} TTFT ≤")
        itls = sorted({row["itl_objective_ms"] for row in rows})
        for itl_ms in itls:
            table.add_column(f"ITL ≤ {itl_ms:g} ms", justify="right")
        by_objectives = {(row["ttft_objective_ms"], row["itl_objective_ms"]): row for row in rows}
        for ttft_ms in sorted({row["ttft_objective_ms"] for row in rows}):
            table.add_row(f"{ttft_ms:g} ms", *(_short(by_objectives[ttft_ms, itl_ms]) for itl_ms in itls))
        yield table


def _short(row: Row) -> str:
    if "vs_best_mono" not in row:
        return NONE
    return f"{SIGNS[Bound(row['vs_best_mono_bound'])]}{row['vs_best_mono']:.2f}"


LEGEND = (
    "Goodput in parentheses: without any one of the rounds. TTFT: of requests with images, under light load (rates up "
    "to half of what the fastest arrangement answers at once), to the quickest monolithic arrangement's, median of "
    "rounds.\n≥ and ≤: one of the two lies beyond the ladder of rates; ~: both do; –: neither keeps the objectives "
    "even at the lowest rate, or was not measured."
)
