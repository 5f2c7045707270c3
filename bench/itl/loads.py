"""`chiasm bench itl` itself: latency over what carriers bring, on every side."""

from pathlib import Path

from bench.itl.described import described
from bench.itl.findings import findings, headline
from bench.itl.plan import Plan
from bench.itl.plots import draw
from bench.itl.publishing import Results, console
from bench.itl.run import CHUNKS, finished, measure, settings, slots_of, steps, warm_up
from bench.itl.slots import Unmeasurable
from bench.itl.subjects import Subject, chunks_of
from bench.itl.tables import sheets
from bench.load.journal import Journal


def compare_loads(plan: Plan, subject: Subject, folder: Path | None, command: str) -> Results:
    """Measure what the journal in `folder` has not, and tell of all.

    Raises:
        Unmeasurable, OtherRun, OSError: see there.
        Also what `Subject.up` raises.
    """
    journal = Journal(folder, settings(plan, subject)) if folder else None
    found = finished(plan, subject.sides, journal)
    chunks = journal.noted(CHUNKS) if journal else None
    if len(found) < len(steps(plan, subject.sides)):
        with console.status(f"starting {', '.join(subject.sides)} ...") as status, subject.up() as running:
            status.stop()
            chunks = chunks_of(running)
            if journal:
                journal.note(CHUNKS, chunks)
            sides = warm_up(running, plan, console)
            minutes = plan.seconds([side.encoded for side in sides.values()]) / 60
            console.print(f"{plan.blocks} blocks take {minutes:.0f} minutes")
            found = measure(plan, sides, found, journal, console)
    slots = slots_of({step: found[step] for step in steps(plan, subject.sides)})
    told = findings(slots, subject.kv_token_bytes())
    if not any(row["blocks"] for row in told.points):
        raise Unmeasurable(f"Not one point counts. The first was left out for this: {told.left_out[0]['fault']}")
    if any("overloaded" in row["fault"] for row in told.left_out):
        every = 1.5 * plan.drives[0].slot_s
        console.print(f"Some points were overloaded: queues were measured, not phases. Cure: --every {every:.2g}")
    return Results(
        "itl",
        "Inter-token latency over image tokens",
        command,
        headline(told),
        told.series,
        sheets(told),
        described(plan, subject.sides, subject.model),
        lambda: draw(told, slots),
        {**subject.described(), "prefill_chunks": chunks},
    )
