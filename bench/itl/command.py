"""`chiasm bench itl`: its options."""

import sys
from pathlib import Path

import click

from bench.itl.findings import findings, headline
from bench.itl.page import described
from bench.itl.plan import FULL, QUICK
from bench.itl.plots import can_draw, draw
from bench.itl.publishing import Files, Results, console, publish
from bench.itl.run import measure
from bench.itl.slots import Unmeasurable
from bench.itl.subjects import DEFAULT, Arrangements, OneEndpoint, Subject
from bench.itl.tables import sheets
from bench.itl.towers_run import compare_towers
from bench.json_option import json_option
from bench.load.journal import OtherRun
from bench.model import build_bench_model
from bench.topologies.arrangement import Arrangement
from bench.topologies.calibration import NotCalibrated
from bench.topologies.program import NotServing
from bench.topologies.resources import NotEnough
from bench.topologies.setting import BadSetting
from chiasm.preflight import PreflightFailed

FAULTS = (BadSetting, NotEnough, NotServing, NotCalibrated, PreflightFailed, Unmeasurable, OtherRun, OSError)

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--quick", is_flag=True, help="One block of small loads: enough to see that it works.")
@click.option(
    "--topology",
    "topologies",
    multiple=True,
    type=click.Choice([str(each) for each in Arrangement]),
    metavar="NAME",
    help=f"What is compared, of {', '.join(Arrangement)}; may be given several times.  [default: {', '.join(DEFAULT)}]",
)
@click.option("--endpoint", help="Base URL of a running, idle server, to be measured alone. Nothing is started.")
@click.option("--api-key", envvar="CHIASM_API_KEY", help="Bearer token, if that server wants one.")
@click.option("--towers", is_flag=True, help="Instead, compare tails during bursts over models with other towers.")
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what is measured in this folder, and go on from what it has.",
)
@json_option
@click.option("--plot", type=_FILE, help="Draw them here, as .svg and as .png.")
@click.option("--html", type=_FILE, help="Write one page with everything here.")
def itl(
    quick: bool,
    topologies: tuple[str, ...],
    endpoint: str | None,
    api_key: str | None,
    towers: bool,
    resume: Path | None,
    json_file: Path | None,
    plot: Path | None,
    html: Path | None,
) -> None:
    """Measure inter-token latency over image tokens: of the requests that carry the images, and of those beside them.

    Text streams run beside carriers, which come by the clock and bring pictures, or as much text. How many tokens they
    bring varies by the pictures' size and number, from none to the most that the model makes of one picture, and so
    does how many come at once. They come as far apart as the largest takes to be answered, which is timed first, and
    half of that more. Unless an endpoint is named, a model of 120 M parameters with random weights is served on two
    cores, split and unsplit, both with a prefill chunk for the same objective. All get the same settings, so none runs
    at its defaults: engines run eagerly. The client has both cores as well, the split's gateway and Ray the encoder's.
    It takes 12 GB of memory and 34 minutes. Nothing else should run meanwhile.

    \b
    bystander_slope_image_vs_text_tokens
        what an image token adds to the inter-token latencies of bystanders, to
        what a text token adds, through the split
    bystander_slope_encoded_image_vs_text_tokens
        the same of pictures that are encoded already
    bystander_p99_itl_mono_vs_split
        P99 of bystanders' ITL while the largest burst of pictures is computed,
        unsplit to split: above 1 the split is better
    carrier_slope_ms_per_1k_split, ..._mono
        what 1,000 image tokens of a burst add to the TPOT of its carriers
    largest_image_ttft_p50_split_vs_mono
        time to first token of the largest picture alone, split to unsplit

    A figure of fewer than five blocks, or of which more than a tenth of the slots is lost, is in no headline.
    """
    if endpoint and (topologies or towers):
        raise click.UsageError("--endpoint measures that server alone: leave --topology and --towers out.")
    if towers and topologies:
        raise click.UsageError("--towers has topologies of its own: leave --topology out.")
    if (plot or html) and not can_draw():
        raise click.UsageError("Drawing needs matplotlib, which is not installed. Cure: pip install matplotlib.")
    given = {"--quick": quick, "--towers": towers, f"--endpoint {endpoint}": endpoint}
    given |= dict.fromkeys((f"--topology {name}" for name in topologies), True)
    command = " ".join(["chiasm bench itl", *(option for option, wanted in given.items() if wanted)])
    try:
        if towers:
            results = compare_towers(quick, resume, command)
        else:
            results = _compare_loads(quick, _subject(topologies, endpoint, api_key), resume, command)
        publish(results, Files(json_file, plot, html))
    except FAULTS as error:
        sys.exit(str(error))


def _compare_loads(quick: bool, subject: Subject, folder: Path | None, command: str) -> Results:
    measured = measure(QUICK if quick else FULL, subject, folder, console)
    told = findings(measured.slots, measured.kv_token_bytes)
    if not any(row["blocks"] for row in told.points):
        raise Unmeasurable(f"Not one point counts. The first was left out for this: {told.left_out[0]['fault']}")
    return Results(
        "itl",
        "Inter-token latency over image tokens",
        command,
        headline(told),
        [*measured.side_rows, *told.series],
        sheets(told),
        described(measured.plan, subject.sides, subject.model),
        lambda: draw(told, measured.slots),
        subject.described(),
        measured.commit,
    )


def _subject(topologies: tuple[str, ...], endpoint: str | None, api_key: str | None) -> Subject:
    if endpoint:
        return OneEndpoint(endpoint, api_key)
    names = [Arrangement(name) for name in dict.fromkeys(topologies)] or list(DEFAULT)
    return Arrangements(names, build_bench_model())
