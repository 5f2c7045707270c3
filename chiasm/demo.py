"""`chiasm demo`: the same pictures through a split cluster and through one unsplit engine, compared token by token."""

import base64
import re
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from chiasm.cli import announce, prepare, require_free_port, watch
from chiasm.client import EndpointError, get_json, post_json
from chiasm.cluster import Cluster, ClusterFailed, ray_session
from chiasm.config import ClusterConfig, GatewayConfig
from chiasm.display import StartDisplay
from chiasm.engine import Engine, EngineFailed, EngineSpec
from chiasm.models.builtin import bundled_pictures
from chiasm.nouns import Role
from chiasm.preflight import ModelFacts

ANSWER_TOKENS = 16
SHOWN_TOKENS = 3
POLLING_S = 1.5


@dataclass(frozen=True)
class Case:
    """One question about some pictures."""

    title: str
    pictures: tuple[Path, ...]
    question: str


@dataclass(frozen=True)
class Answer:
    """What an endpoint said, and how long it took."""

    tokens: list[int]
    seconds: float
    phases: dict[str, float]  # milliseconds, by name


@dataclass(frozen=True)
class _Whole:
    """The unsplit engine as a line of the start display."""

    engine: Engine
    begun: float
    ready: bool
    name: str = "whole (for comparison)"

    @property
    def stage(self) -> str:
        return "ready" if self.ready else self.engine.stage

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun


def cases() -> list[Case]:
    """Every bundled picture alone, then two together, a repeated one, and none."""
    pictures = bundled_pictures()
    alone = [Case(picture.stem, (picture,), "What do you see?") for picture in pictures]
    return [
        *alone,
        Case("first two together", (pictures[0], pictures[1]), "What differs?"),
        Case(f"{pictures[2].stem}, again", (pictures[2],), "Describe it once more."),
        Case("no picture", (), "What is the optic chiasm?"),
    ]


def run_demo(console: Console, exit_after: bool, port: int, verbose: bool) -> None:
    """Start everything, ask, compare; exits with 1 unless every answer matched."""
    gateway = GatewayConfig(port=port)
    require_free_port(gateway)
    config, facts = prepare(ClusterConfig(gateway=gateway))
    console.print("starting Ray on this machine, and three engines ...")
    try:
        with ray_session(None, verbose):
            cluster = Cluster(config, facts, one_machine=True)
            try:
                cluster.start()
                if not _compare(console, cluster, config, facts):
                    console.print("[bold red]not every answer matched[/]")
                    sys.exit(1)
                if not exit_after:
                    announce(cluster.url, facts.name)
                    watch(cluster)
            except KeyboardInterrupt:
                console.print("\nstopping ...")
                raise
            finally:
                cluster.stop()
    except (ClusterFailed, EngineFailed, EndpointError) as error:
        sys.exit(f"the demo failed: {error}")


def _compare(console: Console, cluster: Cluster, config: ClusterConfig, facts: ModelFacts) -> bool:
    token = secrets.token_urlsafe(16)
    spec = EngineSpec("whole", Role.WHOLE, facts.model, facts.name, token, args=tuple(config.decoders.engine_args))
    whole = Engine(spec, log=lambda _line: None)
    try:
        _wait_ready(console, cluster, whole, config)
        table = _new_table()
        matched = 0
        # One arrangement after the other: an idle engine goes on polling for a second, on the cores that all share.
        split_answers = [ask(cluster.url, None, facts.name, case) for case in cases()]
        time.sleep(POLLING_S)
        whole_answers = [ask(whole.url, token, facts.name, case) for case in cases()]
        for case, split, unsplit in zip(cases(), split_answers, whole_answers, strict=True):
            matched += split.tokens == unsplit.tokens
            table.add_row(*_row(case, split, unsplit))
        console.print(table)
        console.print(f"{matched} of {len(cases())} answers equal, token for token")
        counters = get_json(cluster.url, "/v1/chiasm/status")["counters"]
        counted = ", ".join(f"{name} {value}" for name, value in counters.items() if value)
        console.print(f"the cluster counted: {counted}")
        return matched == len(cases())
    finally:
        whole.stop()


def _wait_ready(console: Console, cluster: Cluster, whole: Engine, config: ClusterConfig) -> None:
    begun = time.monotonic()
    with StartDisplay(console) as display, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(whole.wait_ready, config.engine_start_timeout_s)
        members: list[Any] = []

        def show(progress: list[Any]) -> None:
            members[:] = progress
            display.show([*progress, _Whole(whole, begun, waiting.done())])

        cluster.wait_ready(show)
        while not waiting.done():
            show(members)
            time.sleep(0.25)
        waiting.result()
        show(members)


def ask(url: str, token: str | None, model: str, case: Case) -> Answer:
    """Put the case to an endpoint, greedily.

    Raises:
        EndpointError: it did not answer.
    """
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in case.pictures
    ]
    body = {
        "model": model,
        "messages": [{"role": "user", "content": [*content, {"type": "text", "text": case.question}]}],
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "return_token_ids": True,
    }
    begun = time.monotonic()
    answer, headers = post_json(url, "/v1/chat/completions", body, token)
    seconds = time.monotonic() - begun
    phases: dict[str, float] = {}
    for name, duration in re.findall(r"(\w+);dur=([\d.]+)", headers.get("server-timing", "")):
        phases[name] = phases.get(name, 0.0) + float(duration)
    return Answer(answer["choices"][0]["token_ids"], seconds, phases)


def data_url(picture: Path) -> str:
    """A PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def _new_table() -> Table:
    table = Table(
        title="Random weights: the answers mean nothing, that they are equal does.",
        caption="In milliseconds. The split has a core for each half; the whole engine has both.",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
    )
    for heading in ("picture", "tokens", "equal"):
        table.add_column(heading, no_wrap=True, min_width=len(heading))
    for heading in ("encode", "decode", "split", "whole"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    return table


def _row(case: Case, split: Answer, unsplit: Answer) -> tuple[str, ...]:
    shown = " ".join(map(str, split.tokens[:SHOWN_TOKENS])) + (" …" if len(split.tokens) > SHOWN_TOKENS else "")
    equal = "[green]✓[/]" if split.tokens == unsplit.tokens else "[red]✗[/]"
    phases = [f"{split.phases[name]:.0f}" if name in split.phases else "–" for name in ("encode", "decode")]
    return (case.title, shown, equal, *phases, f"{split.seconds * 1000:.0f}", f"{unsplit.seconds * 1000:.0f}")
