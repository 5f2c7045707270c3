"""Measures what `bench.itl.towers` compares, one model after the other, and tells of it."""

from collections.abc import Sequence
from pathlib import Path

from bench.itl.page import described_towers
from bench.itl.plots import Figure, new_figure
from bench.itl.points import Row
from bench.itl.publishing import Results, console
from bench.itl.run import measure
from bench.itl.slots import Unmeasurable
from bench.itl.subjects import DEFAULT, Arrangements
from bench.itl.towers import CASES, TIMES, Compared, compared, headline
from bench.sheets import Sheet

QUICK = "bench"  # the one case of a quick run


def compare_towers(quick: bool, folder: Path | None, command: str) -> Results:
    """All cases, or one of them; what a journal below `folder` has is not measured again.

    Raises:
        Unmeasurable: no case could be told. One that could not is left out, and `series` says why.
        OtherRun, OSError: see there.
        Also what `Arrangements.up` raises.
    """
    cases = [case for case in CASES if not quick or case.name == QUICK]
    found: list[Compared] = []
    rows: list[Row] = []
    left_out: list[Unmeasurable] = []
    for case in cases:
        with console.status(f"making the model with the {case.variant.name} tower, unless that is done ..."):
            subject = Arrangements(DEFAULT, case.variant.build())
        try:
            measured = measure(case.plan(quick), subject, folder and folder / case.name, console)
            found.append(compared(case, measured.slots))
        except Unmeasurable as error:
            console.print(f"{case.name} is left out. {error}", markup=False)
            left_out.append(error)
            rows.append({"what": "left out", "variant": case.name, "fault": str(error)})
            continue
        rows += [{**row, "variant": case.name} for row in measured.side_rows]
    if not found:
        raise left_out[0]
    return Results(
        "itl_towers",
        "Bystanders during bursts of pictures, by what a picture costs",
        command,
        headline(found),
        [*rows, *(one.row for one in found)],
        [_sheet(found)],
        described_towers({case.name: case.plan(quick) for case in cases}),
        lambda: _draw(found),
        subject.described(),
        measured.commit,
    )


def _sheet(found: Sequence[Compared]) -> Sheet:
    columns = [
        "tower",
        "like",
        "tokens",
        "encode : prefill FLOPs",
        "mono",
        "split",
        "encode",
        "chunk mono",
        "chunk split",
    ]
    columns += ["TTFT mono", "TTFT split", "ratio", "predicted", "measured : predicted", "blocks"]
    rows = [
        [
            row["variant"],
            row["like"],
            f"{row['tokens']:,}",
            f"{row['encode_to_prefill_flops']:.2f}",
            *(f"{row[name]:,.0f}" for name in TIMES),
            *(_with_bounds(row, name) for name in ("measured", "predicted", "measured_vs_predicted")),
            str(row["blocks"]),
        ]
        for row in (one.row for one in found)
    ]
    title = "Longest gaps of a bystander during bursts, mono to split, and a picture's TTFT alone (ms; 95 %)"
    return Sheet(title, columns, rows)


def _with_bounds(row: Row, name: str) -> str:
    bounds = f" ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})" if f"{name}_low" in row else ""
    return f"{row[name]:.2f}{bounds}"


def _draw(found: Sequence[Compared]) -> Figure:
    figure, [panel] = new_figure(1, 1)
    rows = [one.row for one in found]
    for tokens in dict.fromkeys(row["tokens"] for row in rows):  # of several towers a line, of one a point
        some = [row for row in rows if row["tokens"] == tokens]
        xs = [row["encode_to_prefill_flops"] for row in some]
        told = "" if some[0] is rows[0] else "_"  # matplotlib's sign for what is in no legend
        panel.plot(xs, [row["measured"] for row in some], "o-", color="C0", label=f"{told}measured")
        panel.plot(xs, [row["predicted"] for row in some], "x:", color="C1", label=f"{told}predicted from the phases")
    widest = max(row["encode_to_prefill_flops"] for row in rows)
    for row in rows:
        x, label = row["encode_to_prefill_flops"], f"{row['like']}, {row['tokens']} tokens"
        # The lines rise: to the right of where they begin is room below them, to the left of where they end above.
        begins = x < widest / 2
        side, offset = ("left", (7, -11)) if begins else ("right", (7, 7))
        at = (x, row["measured"] if begins else max(row["measured"], row["predicted"], row.get("measured_high", 0)))
        if "measured_low" in row:
            panel.vlines(x, row["measured_low"], row["measured_high"], color="C0", alpha=0.5)
        panel.annotate(label, at, xytext=offset, textcoords="offset points", ha=side, fontsize="x-small")
    panel.axhline(1, color="grey", linewidth=0.5)
    panel.margins(y=0.12)  # for the highest label
    panel.set_ylim(bottom=0)
    panel.set_xlabel("FLOPs of encoding a picture : of prefilling it")
    panel.set_ylabel("stall of bystanders, mono : split")
    panel.legend(fontsize="small")
    return figure
