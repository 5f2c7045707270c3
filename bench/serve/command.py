"""`chiasm bench serve`."""

import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.handicap import PaceLost
from bench.json_option import json_option
from bench.load.asking import Unreachable
from bench.load.journal import OtherRun
from bench.load.prices import SHIPPED, BadPrices
from bench.load.random_mm_flags import random_mm_flags
from bench.load.workloads import BadWorkload
from bench.load_generators import GeneratorFailed
from bench.serve import cross_check
from bench.serve.comparing import Files, compare, prices_for
from bench.serve.options import (
    ARRANGEMENTS,
    OF_CHECK,
    OF_COMPARISON,
    OF_LOAD,
    OF_ONE,
    OF_REPEATED,
    OF_SERVERS,
    WORKLOADS,
    Objective,
    Options,
    Topology,
    Verbatim,
    objectives_of,
    refuse,
    workload_of,
    written,
)
from bench.serve.plan import DEFAULT, DEFAULT_OBJECTIVES, FULL, OWN_TTFT_MS, QUICK, SEED, Plan
from bench.serve.server_modes import NUMBER, WORKLOAD, check_server, load_server
from bench.serve.sides import NoRoom
from bench.streams import Unanswered
from bench.topologies.arrangement import Arrangement
from bench.topologies.calibration import NotCalibrated
from bench.topologies.pace import Straddling
from bench.topologies.program import NotServing
from bench.topologies.resources import NotEnough
from bench.topologies.setting import BadSetting
from chiasm.client_options import api_key
from chiasm.preflight import PreflightFailed

# The first is in every group that memory makes of them, so it is small; the splits are up with it if there is room.
COMPARED = (
    *(Arrangement.MONO, Arrangement.MONO_CALIBRATED, Arrangement.SPLIT, Arrangement.SPLIT_STEAL),
    *(Arrangement.MONO_X2, Arrangement.MONO_X2_CALIBRATED),
)
QUICKLY = (Arrangement.MONO, Arrangement.SPLIT)
QUICKLY_UNEQUAL = (Arrangement.MONO_X2, Arrangement.SPLIT)
ON_ALL_CORES = (Arrangement.MONO, Arrangement.MONO_CALIBRATED)
COMPARED_BY, FULLY_BY, QUICKLY_BY = ("text", "1img", "4img"), ("text", "1img", "2img", "4img"), ("1img",)
CANNOT = (
    *(BadSetting, NoRoom, OtherRun, NotEnough, NotServing, NotCalibrated, PreflightFailed, Straddling),
    *(Unanswered, Unreachable, GeneratorFailed, BadWorkload, PaceLost),
)
"""What ends the program with its own words: they name cause and cure."""

console = Console(stderr=True, highlight=False)


@click.command(cls=Verbatim)
@click.option("--endpoint", help="Put one running server under load: its base URL. Unset compares arrangements.")
@click.option("--model", help="Name of the endpoint's model.  [default: the first that it lists]")
@api_key
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Requests/s.  [default: inf, all at once]")
@click.option("--number", type=click.IntRange(1), help=f"Requests.  [default: {NUMBER}]")
@click.option(
    "--burstiness",
    type=click.FloatRange(0, min_open=True),
    help="Of arrivals, as vllm bench serve has it: 1 is Poisson's, less comes in bursts, inf evenly.  [default: 1]",
)
@click.option(
    "--bursts",
    type=click.IntRange(1),
    default=1,
    metavar="SIZE",
    show_default=True,
    help="So many requests come at one moment, at random moments; the rate stays.",
)
@click.option(
    "--max-concurrency",
    type=click.IntRange(1),
    help="Requests under way at a time, at most. What is due then waits: TTFT counts from when it is sent, as by vllm "
    "bench serve, and whether tails keep objectives from when it was due.  [default: no limit]",
)
@click.option(
    "--num-warmups",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Requests of the same kind that are sent before, all at once, and not counted.",
)
@click.option(
    "--workload",
    "workload_names",
    multiple=True,
    help=f"One of {WORKLOADS}, or a FILE.jsonl with a chat body or a row like VisionArena's on each line. Repeat it "
    f"to compare under several.  [default: {WORKLOAD}; comparing {', '.join(COMPARED_BY)}]",
)
@click.option(
    "--goodput",
    type=(Objective(), Objective()),
    metavar="ttft:MS itl:MS",
    help="Objectives for the time to the first token and for the gaps between tokens.  [default, comparing: "
    f"ttft:{DEFAULT_OBJECTIVES.ttft_ms:g} itl:{DEFAULT_OBJECTIVES.itl_ms:g}; "
    f"{', '.join(f'ttft:{ttft_ms:g} of {name}' for name, ttft_ms in OWN_TTFT_MS.items())}]",
)
@click.option(
    "--topology",
    "topologies",
    multiple=True,
    type=Topology(),
    help=f"What is compared; repeat it. One of {ARRANGEMENTS}; or the URL of a server that serves the bench model.  "
    f"[default: {', '.join(COMPARED)}]",
)
@click.option("--full", is_flag=True, help="Compare all arrangements, at more rates, for longer: hours.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    help=f"Times that every ladder is climbed, or both tools are run.  [default: {DEFAULT.rounds}; "
    f"with --full {FULL.rounds}, with --cross-check {cross_check.ROUNDS}]",
)
@click.option(
    "--pace",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Unequal silicon: the encoder's core is so many times slower than the decoder's.",
)
@click.option(
    "--prices",
    "prices_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Table of prices, for tokens per dollar; {SHIPPED.name} beside bench.load shows the form and is the default.",
)
@click.option(
    "--cross-check",
    "checking",
    is_flag=True,
    help="Send the same requests with vllm bench serve, too, and say by how much the figures differ: to --endpoint, or "
    "to a monolithic engine that is started.",
)
@click.option("--tokenizer", help="For --cross-check: folder or hub name.  [default: the model's name]")
@click.option("--seed", default=SEED, show_default=True, help="Of all that is drawn.")
@click.option("--quick", is_flag=True, help="Under a minute, engines' starts left out: enough to see that it works.")
@json_option
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the curves (.svg or .png).")
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what is measured in this folder as it comes; an interrupted comparison goes on where it was.",
)
@click.option(
    "--figures-only",
    is_flag=True,
    help="Measure nothing: make figures of the finished comparison in --resume, whatever commit has measured it.",
)
@random_mm_flags
@click.pass_context
def serve(context: click.Context, /, **given: Any) -> None:
    """Put a server under load, or compare arrangements of the same silicon by the load that they bear.

    \b
      chiasm bench serve --endpoint http://127.0.0.1:8000 --rate 2 --workload 1img
      chiasm bench serve --endpoint http://gpu:8000 --goodput ttft:2000 itl:100
      chiasm bench serve --topology mono --topology split --workload 4img
      chiasm bench serve --full --resume measured --json serve.json
      chiasm bench serve --endpoint http://127.0.0.1:8000 --cross-check

    With --endpoint it is like vllm bench serve: figures have its names and its definitions. Load is open loop:
    requests come when they are due, whatever has become of those before.

    Without, it starts the bench model (120 M parameters, random weights) in several arrangements on two cores, with
    equal KV cache, and climbs a ladder of request rates with each of them in turn, round by round. The same rates for
    all, relative to what the fastest of those that are up first answers when many requests come at once. A rate lasts
    for three times the objective of the time to first token (where a workload has a longer one, for three times the
    others'), and for four requests a round at least. Goodput is the highest rate that can go on for ever: no queue
    grows, it is not above what the arrangement answers when many come at once (filling and emptying it included), and
    P99 of the time to first token (TTFT, from when a request was due) and of the gaps between tokens (ITL) keep their
    objectives; or P95, at all rates of a workload, if one has fewer than a thousand samples: a request has one TTFT,
    and many gaps. It is told over a grid of objectives, not at one point.

    Every calibrated prefill chunk, the split's and the monolithic ones', is for a median step of 200 ms, whatever
    objective figures are told at. Those that are quoted were fixed before anything was measured (but for four images'
    time to first token), and the one of the gaps lies above that, for a tail is more than a median.

    Compared are the split, with and without stealing, and four monolithic arrangements: one engine and two, with vLLM's
    own prefill chunk and with a calibrated one. Ratios are to the best of these four, under each workload and at each
    pair of objectives anew. --full has vLLM's own encoder disaggregation as well, and more workloads and rates.

    It takes two hours and a half and 20 GB of memory, engines' starts included, and five hours with --full. Memory
    does not hold all of it at once: so many as fit are up together and take turns, and the first is in every group,
    whose bursts show how the machine drifts. It says so at its beginning. Nothing else should run meanwhile.

    Equal for all is the principle, so no arrangement is as it ships: all engines run eagerly, and all that generate
    share one number of slots and one size of KV cache. Whatever else there is has the same two cores, and a
    split's gateway and Ray the encoder's alone, unless that one generates as well.
    With --pace a slower core is taken to cost as much less, unless --prices says otherwise.

    On two cores there is none for a second encoder. What spreading a request's images over several wins back is for
    `chiasm bench fan-out`; under load, start `chiasm serve --encoders 2` on more cores, and name its URL with
    --topology.

    \b
    goodput_split_vs_mono_WORKLOAD
        goodput to that of the best monolithic arrangement, at the objectives;
        ..._at_least or ..._at_most where one of the two lies beyond the ladder,
        and none where both do
    goodput_split_steal_vs_mono_WORKLOAD
        the same with work stealing
    image_ttft_p50_split_vs_mono
        time to first token at the lowest rate, one image a request, to the
        quickest's
    """
    options = Options(**given)
    try:
        if options.checking:
            refuse(context, (*OF_COMPARISON, *OF_LOAD, *OF_ONE), "has no meaning for --cross-check.")
            check_server(options, written(context), console)
        elif options.endpoint is not None:
            refuse(context, (*OF_COMPARISON, *OF_REPEATED, *OF_CHECK), "is not for one --endpoint.")
            load_server(options, written(context), console)
        else:
            refuse(context, (*OF_SERVERS, *OF_CHECK, *OF_ONE), "is for one running server: name it with --endpoint.")
            _compare(options, written(context))
    except CANNOT as error:
        sys.exit(str(error))


def _compare(options: Options, command: str) -> None:
    plan = plan_of(options)
    if options.plot is not None and find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib, which is not installed. Cure: pip install matplotlib.")
    try:
        prices = prices_for(plan, options.prices_file)
    except BadPrices as error:
        raise click.UsageError(str(error)) from error
    if options.figures_only and options.resume is None:
        raise click.UsageError("--figures-only needs the folder of a finished comparison: name it with --resume.")
    files = Files(options.json_file, options.plot, options.resume, options.figures_only)
    compare(plan, prices, options.api_key, files, command, console)


def plan_of(options: Options) -> Plan:
    """What is compared, and how much of it is measured.

    Raises:
        click.UsageError: a workload that is none.
    """
    quick, full = options.quick, options.full
    amounts = QUICK if quick else FULL if full else DEFAULT
    workloads = options.workload_names or (QUICKLY_BY if quick else FULLY_BY if full else COMPARED_BY)
    return Plan(
        sides=_sides(options),
        workloads=tuple(workload_of(name, options.random_mm) for name in dict.fromkeys(workloads)),
        amounts=amounts if options.rounds is None else replace(amounts, rounds=options.rounds),
        objectives=objectives_of(options.goodput) or DEFAULT_OBJECTIVES,
        own_ttft_ms={} if options.goodput else OWN_TTFT_MS,
        bursts=options.bursts,
        pace=options.pace,
        seed=options.seed,
    )


def _sides(options: Options) -> tuple[str, ...]:
    """Those that were named; else, where cores are unequal, none that has both, for no card is slow in part."""
    if options.topologies:
        return tuple(dict.fromkeys(options.topologies))
    unequal = options.pace > 1
    if options.quick:
        return QUICKLY_UNEQUAL if unequal else QUICKLY
    compared = (*COMPARED, *(side for side in Arrangement if options.full and side not in COMPARED))
    return tuple(side for side in compared if not unequal or side not in ON_ALL_CORES)
