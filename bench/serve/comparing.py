"""A comparison from its plan to its report: engines' starts, progress, tables, files."""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.load.journal import Journal, OtherRun
from bench.load.prices import SHIPPED, Prices, by_speed, load_prices
from bench.model import build_bench_model
from bench.report import write_report
from bench.serve import findings, tables
from bench.serve.measured import Measured
from bench.serve.plan import CHUNK_ITL_MS, Plan
from bench.serve.plots import plot_curves
from bench.serve.run import Comparison
from bench.serve.sides import chunks_of, groups_of, is_started_here, up
from bench.sheets import fitted
from bench.topologies.arrangement import CLUSTERS
from bench.topologies.setting import COMMON_ARGS, Setting
from bench.topologies.turns import Wake

GROUPS = "groups"  # what a journal notes under it: which sides are up together
LONG, LONG_CONTEXT = "8img", "--max-model-len=4096"


@dataclass(frozen=True)
class Files:
    """Where things go, and come from; None where they are not wanted."""

    json: Path | None
    plot: Path | None
    resume: Path | None
    figures_only: bool = False  # of what `resume` has, whatever commit has measured it; nothing is started


def prices_for(plan: Plan, file: Path | None) -> Prices:
    """The table to tell tokens per dollar by: the user's, or ours, by which a slower core costs as much less.

    Raises:
        BadPrices: the table cannot be read, or lacks the price of something that is compared.
    """
    prices = load_prices(file or SHIPPED)
    if file is None and plan.pace > 1:
        prices = by_speed(prices, plan.pace)
    for side in plan.sides:
        if is_started_here(side):
            prices.per_hour(side)
    return prices


def compare(plan: Plan, prices: Prices, key: str | None, files: Files, command: str, console: Console) -> None:
    """Measure, write, and print.

    Raises:
        NoRoom, BadSetting, OtherRun, OSError: before anything is started.
        NotEnough, NotServing, NotCalibrated, PreflightFailed, Straddling: something could not be started.
        Unanswered: a side answers no request.
    """
    with console.status("making the bench model, unless that is done ..."):
        model = build_bench_model()
    setting = Setting(model, itl_slo_ms=CHUNK_ITL_MS, engine_args=engine_args_for(plan), pace=plan.pace)
    with _journal({**plan.settings(), "setting": setting.described()}, files) as journal:
        # Noted, for another time there may be less memory, and the same points would have other names.
        if (groups := journal.noted(GROUPS)) is None:
            journal.note(GROUPS, groups := groups_of(plan.sides, setting))
        if not files.figures_only:
            _announce(plan, groups, console)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            start = (
                _nothing_is_started if files.figures_only else partial(up, setting=setting, key=key, note=journal.note)
            )
            measured = Comparison(plan, groups, setting.cores, journal, progress).measure(start)
        described = [
            {
                "what": "side",
                "arrangement": side,
                "engine_args": " ".join(setting.engine_args),
                **({"price_sources": prices.sources(side)} if is_started_here(side) else {}),
                **chunk,
            }
            for side in plan.sides
            for chunk in journal.noted(chunks_of(side)) or [{}]
        ]
        setting_told = {**setting.described(), "nonce": journal.nonce}
        report(measured, described, prices, files, command, setting_told, journal.commit)


def _nothing_is_started(sides: Sequence[str]) -> AbstractContextManager[Mapping[str, Wake]]:
    raise OtherRun(
        f"Something of {', '.join(sides)} was not measured. Cure: finish that run at its own commit, without "
        "--figures-only."
    )


def engine_args_for(plan: Plan) -> tuple[str, ...]:
    """Eight pictures and their text are more than the usual context holds."""
    return (*COMMON_ARGS, LONG_CONTEXT) if LONG in {one.name for one in plan.workloads} else COMMON_ARGS


def report(
    measured: Measured,
    described: Sequence[Mapping[str, object]],
    prices: Prices,
    files: Files,
    command: str,
    setting: Mapping[str, object],
    measured_at: str,
) -> None:
    """Write what was found to the files that are wanted, and print it."""
    plan, found, figures = measured.plan, findings.rows(measured, prices), findings.headline(measured)
    if files.json is not None:
        write_report(
            files.json,
            name="serve",
            command=command,
            headline=figures,
            series=[*described, *found],
            seeds=[plan.seed],
            setting=setting,
            measured_at=measured_at,
        )
    printed = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    of_clusters = (sheet for side in plan.sides if side in CLUSTERS for sheet in tables.ratio_grids(found, side))
    for sheet in (*tables.summaries(found), *of_clusters, *tables.drifts(found)):
        printed.print(*fitted(sheet, printed.width))
    printed.print(tables.LEGEND)
    for name, figure in figures.items():
        printed.print(f"{name:<50}{figure:g}")
    if files.plot is not None:
        title = "cores of equal pace" if plan.pace == 1 else f"the encoder's core {plan.pace} times slower"
        objectives = {one.name: plan.objectives_for(one.name) for one in plan.workloads}
        plot_curves(found, objectives, title, files.plot)


@contextmanager
def _journal(settings: Mapping[str, object], files: Files) -> Iterator[Journal]:
    if files.resume is not None:
        yield Journal(files.resume, settings, to_read=files.figures_only)
        return
    with tempfile.TemporaryDirectory(prefix="chiasm-serve-") as elsewhere:
        yield Journal(Path(elsewhere), settings)


def _announce(plan: Plan, groups: Sequence[Sequence[str]], console: Console) -> None:
    minutes = plan.about_minutes(len(groups), sum(map(len, groups)))
    console.print(f"About {minutes:.0f} minutes, engines' starts included.")
    if len(groups) > 1:
        said = "; then ".join(", ".join(group) for group in groups)
        console.print(f"Memory does not hold all at once: {said}. {groups[0][0]} in each shows how the machine drifts.")
