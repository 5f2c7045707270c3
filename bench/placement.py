"""`chiasm bench placement`: how long pictures wait for their first token, by how encodes are placed.

Real engines: two encoders, one of which is stopped part of the time, and a decoder (`bench.two_encoders`). Pictures
of mixed sizes come when they come, whatever has become of those before; each answer is one token, so that nothing
counts but the time to it. The policies take turns, round by round, on the same engines, with the same sizes at the same
moments; no picture comes twice, so no cache helps. A turn begins with a new scheduler, which has to measure the
encoders anew; its first answers do not count.

How many pictures come follows from what the cluster has been seen to do at most, in the same run.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.json_option import json_option
from bench.picture_traffic import TrafficFailed, arrivals, picture_bodies, send_at_once, send_when_due
from bench.placement_figures import HOUSE, Capacity, Turns, as_table, draw, headline, points
from bench.policies import LeastCount, Random, RoundRobin
from bench.report import write_report
from bench.two_encoders import FAST, SLOW, TwoEncoders, two_encoders
from chiasm.config import ClusterConfig, GatewayConfig, SchedulerConfig
from chiasm.engine import EngineFailed
from chiasm.models.tiny import build_tiny_model
from chiasm.pools import EncodersConfig, PoolConfig
from scheduler.finish_index import FinishIndex
from scheduler.placement import Placement
from scheduler.workers import EncodeWorker

SEED = 1
POLICIES: dict[str, Callable[[str], Placement[EncodeWorker]]] = {  # made for a turn, which has a seed
    HOUSE: lambda _: FinishIndex(),
    "round robin": lambda _: RoundRobin(),
    "random": Random,
    "least count": lambda _: LeastCount(),
}

SIDES = 112, 896  # pixels: 16 to 1,024 image tokens
AT_ONCE = 8  # requests that keep both encoders busy
MEASURED, QUICK_MEASURED = 120, 30  # pictures that tell what the cluster can do
UNCOUNTED = 20  # answers at the beginning of a turn, while rates are learnt

HIGH, LOW = 0.7, 0.3  # of what the cluster can do
KEEPS_UP = 0.9  # of what the slow encoder can do, at most, where half of the pictures go to it

TOWER = {"hidden_size": 256, "intermediate_size": 512, "num_heads": 4, "fullatt_block_indexes": []}
ENGINE_ARGS = ("--dtype=float32", "--enforce-eager", "--max-model-len=2048", "--kv-cache-memory-bytes=67108864")

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Setting:
    """What the encoders are, how much comes, and for how long each policy bears it."""

    unequal: bool
    share: float  # of what the cluster can do
    rounds: int
    counted: int  # answers of each policy in a round


FULL = (
    Setting(unequal=True, share=HIGH, rounds=5, counted=200),
    Setting(unequal=False, share=LOW, rounds=3, counted=100),
)
QUICK = (Setting(unequal=True, share=HIGH, rounds=1, counted=40),)


@click.command()
@click.option("--quick", is_flag=True, help="One short round with unequal encoders.")
@json_option
@click.option("--plot", type=click.Path(path_type=Path), help="Draw who waits how long (.svg or .png).")
def placement(quick: bool, json_file: Path | None, plot: Path | None) -> None:
    """Time to first token by how encodes are placed: by least predicted finish, or by simpler rules.

    Two encoders get pictures of mixed sizes. The simpler rules are round robin, random, and whoever holds the fewest
    encodes. A ratio is the house's time over the other rule's: 0.5 is half the wait.

    First one encoder is held to part of a core, and pictures come at 70 % of the rate that both can do together, or
    less where half of them would be too much for the slow encoder. Then both are equally fast, and pictures come at
    30 %: there is little to gain.
    """
    settings = QUICK if quick else FULL
    try:
        with tempfile.TemporaryDirectory() as folder, two_encoders(_config(Path(folder)), console) as cluster:
            measured = [_measure(cluster, setting, QUICK_MEASURED if quick else MEASURED) for setting in settings]
    except (EngineFailed, TrafficFailed) as error:
        sys.exit(str(error))
    series = [point for turns in measured for point in points(turns)]
    Console(width=None if sys.stdout.isatty() else 150).print(as_table(series))
    if json_file is not None:
        command = "chiasm bench placement" + (" --quick" if quick else "")
        figures = headline(series)
        write_report(json_file, name="placement", command=command, headline=figures, series=series, seeds=[SEED])
    if plot is not None:
        draw(measured[0], plot)


def _config(folder: Path) -> ClusterConfig:
    """A cluster for a model that is made in `folder`: a tower that keeps a core busy, and next to no language model.

    The tower's cost is linear in an image's tokens, as that of real ones nearly is. Nobody reads its answers, so vLLM
    makes the weights up.
    """
    model = build_tiny_model(folder / "model")
    described = json.loads((model / "config.json").read_text())
    described["vision_config"] |= TOWER
    (model / "config.json").write_text(json.dumps(described))
    args, env = [*ENGINE_ARGS, "--load-format=dummy"], {"OMP_NUM_THREADS": "1"}
    return ClusterConfig(
        model=str(model),
        gateway=GatewayConfig(port=0),
        scheduler=SchedulerConfig(heartbeat_s=0.2, prefill_chunk=0),  # soon known to the next scheduler
        encoders=EncodersConfig(count=2, engine_args=args, env=env),
        decoders=PoolConfig(engine_args=args, env=env),
    )


def _measure(cluster: TwoEncoders, setting: Setting, pictures: int) -> Turns:
    """Each policy in turn, once it is known from so many pictures what the cluster can do."""
    with cluster.unequal() if setting.unequal else nullcontext():
        capacity = _capacity(cluster, pictures)
        turns = Turns(capacity, min(setting.share, KEEPS_UP * capacity.halves), {policy: [] for policy in POLICIES})
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, redirect_stdout=False) as progress:
            title = f"encoders 1 : {capacity.speed_ratio:.1f}, {turns.per_s:.1f} pictures/s"
            task = progress.add_task(title, total=setting.rounds * len(POLICIES))
            for number in range(setting.rounds):
                seed = f"{SEED}, {setting}, {number}"
                due_s = arrivals(UNCOUNTED + setting.counted, turns.per_s, seed)
                for policy, make in POLICIES.items():
                    bodies = picture_bodies(len(due_s), SIDES, seed, policy)
                    cluster.schedule_by(make(seed))
                    turns.rounds[policy].append(send_when_due(cluster.url, bodies, due_s)[UNCOUNTED:])
                    progress.advance(task)
    return turns


def _capacity(cluster: TwoEncoders, pictures: int) -> Capacity:
    """What the cluster does while both encoders always have work. Placed well, they also come to their end together."""
    cluster.schedule_by(FinishIndex())
    seed = str(SEED)
    with console.status("measuring what the cluster can do ..."):
        send_at_once(cluster.url, picture_bodies(UNCOUNTED, SIDES, seed, "learning"), AT_ONCE)
        answers = send_at_once(cluster.url, picture_bodies(pictures, SIDES, seed, "capacity"), AT_ONCE)
    took_s = max(answered.ended_s for answered in answers)
    fast, slow = (sum(each.tokens for each in answers if each.encoder == name) / took_s for name in (FAST, SLOW))
    return Capacity(pictures / took_s, fast, slow)
