"""`chiasm bench fan-out`: what spreading a request's images over two encoders wins back of its time to first token.

Two cores have none for a second encoder. So both share one, and take turns on it, ten milliseconds each, whether the
other has work or not: either is an encoder of half a core. The same requests, one at a time, are placed once by the
policy of the house, which spreads the images of a request, and once on the first encoder alone, on the same engines. No
picture comes twice. Each turn begins with a new scheduler, whose first answer does not count.
"""

import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.json_option import json_option
from bench.load.pictures import picture
from bench.load.slopes import LEAST, ratio
from bench.load.workloads import exactly
from bench.model import build_bench_model
from bench.policies import Only
from bench.report import commit, write_report
from bench.topologies.cores import only_on
from bench.topologies.setting import BadSetting, first_two_cores
from bench.two_encoders import FAST, TwoEncoders, two_encoders
from chiasm.api_paths import CHAT_PATH
from chiasm.ask import chat_body
from chiasm.client import EndpointError, get_json, post_stream
from chiasm.config import ClusterConfig, GatewayConfig, SchedulerConfig
from chiasm.engine import EngineFailed
from chiasm.pools import EncodersConfig, PoolConfig
from scheduler.finish_index import FinishIndex
from scheduler.placement import Placement
from scheduler.workers import EncodeWorker

SEED = 1
SIDE = 224  # pixels: 64 image tokens of the bench model
NUMBERS = (1, 2, 4, 8)  # of images in a request
ROUNDS, QUICK_ROUNDS = 12, 1
ENGINE_ARGS = ("--dtype=float32", "--enforce-eager", "--max-model-len=2048", "--kv-cache-memory-bytes=67108864")
SPREAD, ALONE = "two encoders", "one encoder"
POLICIES: Mapping[str, Callable[[], Placement[EncodeWorker]]] = {SPREAD: FinishIndex, ALONE: lambda: Only(FAST)}

Row = dict[str, Any]

console = Console(stderr=True, highlight=False)


@click.command("fan-out")
@click.option("--quick", is_flag=True, help="One round.")
@json_option
def fan_out(quick: bool, json_file: Path | None) -> None:
    """Time to first token of requests with several images: over two encoders, to one.

    Both encoders share a core in turns, half of it each, and a decoder has another one. So a ratio of 0.5 would be an
    encode twice as fast, in a request that is nothing else. It takes 8 GB of memory and ten minutes. Nothing else
    should run meanwhile.

    \b
    image_ttft_two_vs_one_encoder_NUMBERimg
        mean time to first token over two encoders, to that over one
    """
    rounds = QUICK_ROUNDS if quick else ROUNDS
    measured_at = commit()
    try:
        encoding, decoding = first_two_cores()
        # The client has both cores; gateway and scheduler, which are threads of it here, have them too.
        with (
            only_on(f"{encoding},{decoding}"),
            two_encoders(_config(), console, encoding, decoding) as cluster,
            cluster.halves(),
        ):
            series = _measured(cluster, rounds)
    except (BadSetting, EngineFailed, EndpointError) as error:
        sys.exit(str(error))
    compared = comparison(series)
    Console(highlight=False, width=None if sys.stdout.isatty() else 150).print(_table(compared))
    if json_file is not None:
        command = "chiasm bench fan-out" + (" --quick" if quick else "")
        write_report(
            json_file,
            name="fan_out",
            command=command,
            headline=headline(compared),
            series=[*compared, *series],
            seeds=[SEED],
            measured_at=measured_at,
        )


def _config() -> ClusterConfig:
    args, env = list(ENGINE_ARGS), {"OMP_NUM_THREADS": "1"}
    return ClusterConfig(
        model=str(build_bench_model()),
        gateway=GatewayConfig(port=0),
        scheduler=SchedulerConfig(heartbeat_s=0.2, prefill_chunk=0),  # soon known to the next scheduler
        encoders=EncodersConfig(count=2, engine_args=args, env=env),
        decoders=PoolConfig(engine_args=args, env=env),
    )


def _measured(cluster: TwoEncoders, rounds: int) -> list[Row]:
    dice = random.Random(SEED)
    series: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, redirect_stdout=False) as progress:  # what engines say stays dropped
        task = progress.add_task("", total=rounds * len(POLICIES))
        for number in range(1, rounds + 1):
            for name in POLICIES if number % 2 else reversed(list(POLICIES)):
                progress.update(task, description=f"round {number}, {name}")
                cluster.schedule_by(POLICIES[name]())
                _ask(cluster.url, max(NUMBERS), dice)
                series += [{"round": number, "by": name, **_ask(cluster.url, images, dice)} for images in NUMBERS]
                progress.advance(task)
    return series


def _ask(url: str, images: int, dice: random.Random) -> Row:
    """One request, and where its images were encoded."""
    pictures = [picture(SIDE, SIDE, dice) for _ in range(images)]
    body = chat_body(None, pictures, "What is this?", stream=True, **exactly(1))
    sent = time.monotonic()
    with post_stream(url, CHAT_PATH, body) as (events, headers):
        next(events)  # the gateway sends nothing before the first token
        ttft_s = time.monotonic() - sent
        for _ in events:
            pass
    reasons = get_json(url, f"/v1/chiasm/requests/{headers['x-request-id']}/reasons")["reasons"]
    encoders = [reason["worker"] for reason in reasons if reason["what"] == "encode placed"]
    on_the_first = encoders.count(FAST)
    return {"images": images, "ttft_ms": round(1000 * ttft_s, 1), "on_the_first": on_the_first, "placed": len(encoders)}


def comparison(series: Sequence[Row]) -> list[Row]:
    """For each number of images both means, their ratio with its 95 % interval over the rounds, and how even the
    images were spread.
    """
    found = []
    for images in sorted({row["images"] for row in series}):
        of = {name: [row for row in series if (row["images"], row["by"]) == (images, name)] for name in POLICIES}
        spread, alone = ([row["ttft_ms"] for row in sorted(of[name], key=_round)] for name in (SPREAD, ALONE))
        row: Row = {"round": "all", "images": images, "rounds": len(spread)}
        row |= {"two_ms": round(sum(spread) / len(spread), 1), "one_ms": round(sum(alone) / len(alone), 1)}
        row["ratio"] = round(sum(spread) / sum(alone), 3)
        if len(spread) >= LEAST:
            interval = ratio(spread, alone)
            row |= {"low": round(interval.low, 3), "high": round(interval.high, 3)}
        placed = sum(row["placed"] for row in of[SPREAD])
        row["share_of_the_first"] = round(sum(row["on_the_first"] for row in of[SPREAD]) / placed, 3)
        found.append(row)
    return found


def _round(row: Row) -> int:
    number: int = row["round"]
    return number


def headline(compared: Sequence[Row]) -> dict[str, float]:
    """The ratios."""
    return {f"image_ttft_two_vs_one_encoder_{row['images']}img": row["ratio"] for row in compared}


def _table(compared: Sequence[Row]) -> Table:
    table = Table(title="time to first token, mean", title_justify="left")
    for column in ("images", "two encoders, ms", "one, ms", "ratio", "95 %", "images on the first of two"):
        table.add_column(column, justify="right")
    for row in compared:
        interval = f"{row['low']:.2f} to {row['high']:.2f}" if "low" in row else "–"
        numbers = (f"{row['two_ms']:,.0f}", f"{row['one_ms']:,.0f}", f"{row['ratio']:.2f}", interval)
        table.add_row(str(row["images"]), *numbers, f"{row['share_of_the_first']:.0%}")
    return table
