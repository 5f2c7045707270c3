"""Measures what `bench.itl.towers` compares, one model after the other, and tells of it."""

import random
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.itl.described import described_towers
from bench.itl.plan import Plan
from bench.itl.plots import Figure, new_figure
from bench.itl.publishing import Results, console
from bench.itl.run import CHUNKS, finished, measure, settings, slots_of, steps, warm_up
from bench.itl.sides import Side
from bench.itl.subjects import DEFAULT, Arrangements, chunks_of
from bench.itl.tables import Sheet
from bench.itl.towers import MONO, Compared, alone, compared, headline, tower_plan
from bench.load.answers import Answer
from bench.load.driver import drive
from bench.load.journal import Journal
from bench.towers import VARIANTS, Variant

PROFILE = "profile"  # a point of the journal
QUICK = "bench"  # the one tower of a quick run


def compare_towers(quick: bool, folder: Path | None, command: str) -> Results:
    """All towers, or one of them; what a journal below `folder` has is not measured again.

    Raises:
        Unmeasurable, OtherRun, OSError: see there.
        Also what `Arrangements.up` raises.
    """
    variants = [variant for variant in VARIANTS if not quick or variant.name == QUICK]
    settings_of: dict[str, Any] = {}
    found = [_compared(variant, quick, folder and folder / variant.name, settings_of) for variant in variants]
    return Results(
        "itl_towers",
        "Bystanders during bursts of pictures, by what a picture costs",
        command,
        headline(found),
        [one.row for one in found],
        [_sheet(found)],
        described_towers(tower_plan(VARIANTS[-1], quick)),
        lambda: _draw(found),
        settings_of,
    )


def _compared(variant: Variant, quick: bool, folder: Path | None, settings_of: dict[str, Any]) -> Compared:
    """What its engines were started with is added to `settings_of`."""
    with console.status(f"making the model with the {variant.name} tower, unless that is done ..."):
        subject = Arrangements(DEFAULT, variant.build())
    plan = tower_plan(variant, quick)
    journal = Journal(folder, settings(plan, subject)) if folder else None
    found = finished(plan, subject.sides, journal)
    profile = journal.get(PROFILE) if journal else None
    chunks = journal.noted(CHUNKS) if journal else None
    if profile is None or len(found) < len(steps(plan, subject.sides)):
        starting = f"{variant.name} tower: starting {', '.join(subject.sides)} ..."
        with console.status(starting) as status, subject.up() as running:
            status.stop()
            chunks = chunks_of(running)
            if journal:
                journal.note(CHUNKS, chunks)
            sides = warm_up(running, plan, console)
            if profile is None:
                profile = _profile(sides[MONO], plan)
                if journal:
                    journal.put(PROFILE, profile)
            found = measure(plan, sides, found, journal, console)
    settings_of[variant.name] = {**subject.described(), "prefill_chunks": chunks}
    return compared(variant, slots_of(found), profile)


def _profile(side: Side, plan: Plan) -> list[Answer]:
    with console.status("a picture, and as much text, each alone ..."):
        return drive(side.endpoint, alone(side.texts, plan, random.Random(secrets.token_hex())))


def _sheet(found: Sequence[Compared]) -> Sheet:
    columns = [
        "tower",
        "like",
        "encode : prefill FLOPs",
        "encode",
        "chunk mono",
        "chunk split",
        "tail",
        "mono",
        "split",
    ]
    columns += ["ratio", "without any one block", "predicted", "measured : predicted"]
    rows = []
    for one in found:
        row = one.row
        low, high = row["lowest_without_a_block"], row["highest_without_a_block"]
        rows.append(
            [
                row["variant"],
                row["like"],
                f"{row['encode_to_prefill_flops']:.2f}",
                *(f"{row[name]:,.0f}" for name in ("encode_ms", "mono_chunk_ms", "split_chunk_ms")),
                row["percentile"],
                *(f"{row[name]:,.0f}" for name in ("mono_ms", "split_ms")),
                f"{row['measured']:.2f} x",
                "–" if low is None else f"{low:.2f} to {high:.2f}",
                f"{row['predicted']:.2f} x",
                f"{row['measured_vs_predicted']:.2f}",
            ]
        )
    return Sheet("Tail of bystanders' inter-token latency during bursts, mono to split (ms)", columns, rows)


def _draw(found: Sequence[Compared]) -> Figure:
    figure, [panel] = new_figure(1, 1)
    rows = [one.row for one in found]
    xs = [row["encode_to_prefill_flops"] for row in rows]
    panel.plot(xs, [row["measured"] for row in rows], "o-", label="measured")
    panel.plot(xs, [row["predicted"] for row in rows], "x:", label="predicted from the phases")
    for x, row in zip(xs, rows, strict=True):
        if row["lowest_without_a_block"] is not None:
            panel.vlines(x, row["lowest_without_a_block"], row["highest_without_a_block"], color="C0", alpha=0.5)
        panel.annotate(row["like"], (x, row["measured"]), xytext=(0, 6), textcoords="offset points", fontsize="x-small")
    panel.axhline(1, color="grey", linewidth=0.5)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("FLOPs of encoding a picture : of prefilling it")
    panel.set_ylabel("tail of bystanders' ITL, mono : split")
    panel.legend(fontsize="small")
    return figure
