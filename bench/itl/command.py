"""`chiasm bench itl`: its options."""

import sys
from pathlib import Path

import click

from bench.itl.loads import compare_loads
from bench.itl.plan import FULL, QUICK
from bench.itl.plots import can_draw
from bench.itl.publishing import Files, publish
from bench.itl.slots import Unmeasurable
from bench.itl.subjects import DEFAULT, Arrangements, OneEndpoint, Subject
from bench.itl.towers_run import compare_towers
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
    help=f"What is compared; may be given several times.  [default: {', '.join(DEFAULT)}]",
)
@click.option("--endpoint", help="Base URL of a running, idle server, to be measured alone. Nothing is started.")
@click.option("--api-key", envvar="CHIASM_API_KEY", help="Bearer token, if that server wants one.")
@click.option(
    "--every",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="From one carrier to the next, where one may bring the most tokens.  "
    f"[default: {FULL.drives[0].slot_s:g}, quick {QUICK.drives[0].slot_s:g}]",
)
@click.option("--towers", is_flag=True, help="Instead, compare tails during bursts over models with other towers.")
@click.option(
    "--resume",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what is measured in this folder, and go on from what it has.",
)
@click.option("--json", "json_file", type=_FILE, help="Write the figures here.")
@click.option("--plot", type=_FILE, help="Draw them here, as .svg and as .png.")
@click.option("--html", type=_FILE, help="Write one page with everything here.")
def itl(
    quick: bool,
    topologies: tuple[str, ...],
    endpoint: str | None,
    api_key: str | None,
    every: float | None,
    towers: bool,
    resume: Path | None,
    json_file: Path | None,
    plot: Path | None,
    html: Path | None,
) -> None:
    """Measure inter-token latency over image tokens: of the requests that carry the images, and of those beside them.

    Text streams run beside carriers, which come by the clock and bring pictures, or as much text. How many tokens they
    bring varies by the pictures' size and number, from none to the most that the model makes of one picture. Unless an
    endpoint is named, a model of 120 M parameters with random weights is served on two cores, split and unsplit, both
    with a prefill chunk for the same objective. Equal for all is the principle, so none is as it ships: engines run
    eagerly, and client, gateway and Ray share their two cores. It takes 12 GB of memory and 25 minutes, starting the
    engines not counted. Nothing else should run meanwhile.

    \b
    bystander_slope_image_vs_text_tokens          what an image token adds to the mean ITL of bystanders, to what a
                                                  text token adds, through the split
    bystander_slope_encoded_image_vs_text_tokens  the same of pictures that are encoded already
    bystander_p99_itl_mono_vs_split               tail of bystanders' ITL during bursts of pictures
    carrier_slope_ms_per_1k_split, ..._mono       what 1,000 image tokens of each add to the TPOT of carriers that
                                                  come in bursts
    """
    if endpoint and (topologies or towers):
        raise click.UsageError("--endpoint measures that server alone: leave --topology and --towers out.")
    if towers and (topologies or every):
        raise click.UsageError("--towers has topologies and times of its own: leave --topology and --every out.")
    if (plot or html) and not can_draw():
        raise click.UsageError("Drawing needs matplotlib, which is not installed. Cure: pip install matplotlib.")
    given = {"--quick": quick, "--towers": towers, f"--endpoint {endpoint}": endpoint, f"--every {every}": every}
    given |= dict.fromkeys((f"--topology {name}" for name in topologies), True)
    command = " ".join(["chiasm bench itl", *(option for option, wanted in given.items() if wanted)])
    try:
        if towers:
            results = compare_towers(quick, resume, command)
        else:
            plan = QUICK if quick else FULL
            subject = _subject(topologies, endpoint, api_key)
            results = compare_loads(plan.every(every) if every else plan, subject, resume, command)
        publish(results, Files(json_file, plot, html))
    except FAULTS as error:
        sys.exit(str(error))


def _subject(topologies: tuple[str, ...], endpoint: str | None, api_key: str | None) -> Subject:
    if endpoint:
        return OneEndpoint(endpoint, api_key)
    names = [Arrangement(name) for name in dict.fromkeys(topologies)] or list(DEFAULT)
    return Arrangements(names, build_bench_model())
