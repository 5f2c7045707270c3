"""What a person reads of a comparison."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.serve.reach import Bound
from bench.serve.regions import NONE, OPEN, SIGNS, spread
from bench.sheets import Sheet

Row = Mapping[str, Any]


COLUMNS = ["arrangement", "rounds", "at once, req/s", "at once to mono", "cores busy", "goodput, req/s", "to best mono"]
COLUMNS += ["which is", "tokens/$", "TTFT P50 ms", "tail", "of", "TTFT to mono"]


def summaries(series: Sequence[Row]) -> Iterator[Sheet]:
    """For each workload a table with a line for each arrangement."""
    found = [row for row in series if row["what"] == "summary"]
    for workload in dict.fromkeys(row["workload"] for row in found):
        rows = [row for row in found if row["workload"] == workload]
        first = rows[0]
        title = (
            f"{workload}: goodput within TTFT {first['ttft_objective_ms']:g} ms and ITL "
            f"{first['itl_objective_ms']:g} ms, {first['percentiles']}"
        )
        yield Sheet(title, COLUMNS, [[row["arrangement"], *_cells(row)] for row in rows])


def _cells(row: Row) -> Iterator[str]:
    yield str(row["rounds"])
    yield f"{row['burst_requests_per_s']:.2f}" + (f", {row['burst_failed']} failed" if row["burst_failed"] else "")
    yield _ratio(row, "burst_vs_best_mono")
    busy = [row[name] for name in ("burst_encoder_cores_busy", "burst_decoder_cores_busy") if name in row]
    yield " + ".join(f"{share:.0%}" for share in busy) or NONE
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


def ratio_grids(series: Sequence[Row], arrangement: str) -> Iterator[Sheet]:
    """For each workload, the arrangement's goodput to the best monolithic one's over the grid of objectives."""
    found = [row for row in series if row["what"] == "grid" and row["arrangement"] == arrangement]
    for workload in dict.fromkeys(row["workload"] for row in found):
        rows = [row for row in found if row["workload"] == workload]
        names = [name for name in rows[0] if name.startswith("itl_")]
        yield Sheet(
            f"{workload}: goodput of {arrangement} to the best monolithic arrangement's",
            ["TTFT ≤", *(f"ITL ≤ {name.split('_')[1]} ms" for name in names)],
            [[f"{row['ttft_objective_ms']:g} ms", *(row[name] for name in names)] for row in rows],
        )


def drifts(series: Sequence[Row]) -> Iterator[Sheet]:
    """One, if anything was measured a second time, with what the machine made of that."""
    found = [row for row in series if row["what"] == "drift"]
    if found:
        columns = ["again", "workload", "at once, to the first time"]
        rows = [[row["again"], row["workload"], _ratio(row, "burst_vs_first")] for row in found]
        yield Sheet("How the machine has drifted", columns, rows)


LEGEND = (
    "In parentheses: 95 % intervals over the rounds; bounds have none. At once: to the most of any monolithic "
    "arrangement. Cores busy: the encoder's and the decoder's, meanwhile. TTFT: of requests with images, at the "
    "lowest rate, from when they were due, to the quickest monolithic arrangement's. ≥ and ≤: one of the two lies "
    "beyond the ladder of rates; both: keep the objectives at all rates; –: neither does even at the lowest rate, or "
    "was not measured; *: the whole interval lies on one side of 1."
)
