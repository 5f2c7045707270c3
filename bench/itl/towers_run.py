"""Measures what `bench.itl.towers` compares, one model after the other, and tells of it."""

from collections.abc import Sequence
from pathlib import Path

from bench.itl.page import described_towers
from bench.itl.plots import Figure, new_figure
from bench.itl.points import Row
from bench.itl.publishing import Results, console
from bench.itl.run import measure
from bench.itl.subjects import DEFAULT, Arrangements
from bench.itl.tables import Sheet
from bench.itl.towers import TIMES, Compared, compared, headline, tower_plan
from bench.towers import VARIANTS

QUICK = "bench"  # the one tower of a quick run


def compare_towers(quick: bool, folder: Path | None, command: str) -> Results:
    """All towers, or one of them; what a journal below `folder` has is not measured again.

    Raises:
        Unmeasurable, OtherRun, OSError: see there.
        Also what `Arrangements.up` raises.
    """
    variants = [variant for variant in VARIANTS if not quick or variant.name == QUICK]
    found: list[Compared] = []
    rows: list[Row] = []
    for variant in variants:
        with console.status(f"making the model with the {variant.name} tower, unless that is done ..."):
            subject = Arrangements(DEFAULT, variant.build())
        measured = measure(tower_plan(quick), subject, folder and folder / variant.name, console)
        found.append(compared(variant, measured.slots))
        rows += [{**row, "variant": variant.name} for row in measured.side_rows]
    return Results(
        "itl_towers",
        "Bystanders during bursts of pictures, by what a picture costs",
        command,
        headline(found),
        [*rows, *(one.row for one in found)],
        [_sheet(found)],
        described_towers(tower_plan(quick)),
        lambda: _draw(found),
        subject.described(),
    )


def _sheet(found: Sequence[Compared]) -> Sheet:
    columns = ["tower", "like", "encode : prefill FLOPs", "mono", "split", "encode", "chunk mono", "chunk split"]
    columns += ["TTFT mono", "TTFT split", "ratio", "predicted", "measured : predicted", "blocks"]
    rows = [
        [
            row["variant"],
            row["like"],
            f"{row['encode_to_prefill_flops']:.2f}",
            *(f"{row[name]:,.0f}" for name in TIMES),
            *(_with_bounds(row, name) for name in ("measured", "predicted", "measured_vs_predicted")),
            str(row["blocks"]),
        ]
        for row in (one.row for one in found)
    ]
    title = "Longest gap of a bystander during bursts, mono to split, and a picture's TTFT alone (ms; 95 %)"
    return Sheet(title, columns, rows)


def _with_bounds(row: Row, name: str) -> str:
    bounds = f" ({row[f'{name}_low']:.2f} to {row[f'{name}_high']:.2f})" if f"{name}_low" in row else ""
    return f"{row[name]:.2f}{bounds}"


def _draw(found: Sequence[Compared]) -> Figure:
    figure, [panel] = new_figure(1, 1)
    rows = [one.row for one in found]
    xs = [row["encode_to_prefill_flops"] for row in rows]
    panel.plot(xs, [row["measured"] for row in rows], "o-", label="measured")
    panel.plot(xs, [row["predicted"] for row in rows], "x:", label="predicted from the phases")
    for x, row in zip(xs, rows, strict=True):
        if "measured_low" in row:
            panel.vlines(x, row["measured_low"], row["measured_high"], color="C0", alpha=0.5)
        panel.annotate(row["like"], (x, row["measured"]), xytext=(0, 6), textcoords="offset points", fontsize="x-small")
    panel.axhline(1, color="grey", linewidth=0.5)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("FLOPs of encoding a picture : of prefilling it")
    panel.set_ylabel("stall of bystanders, mono : split")
    panel.legend(fontsize="small")
    return figure
