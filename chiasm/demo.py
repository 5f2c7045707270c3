"""`chiasm demo`: questions about the bundled pictures, put to a split cluster and to one unsplit engine.

Every answer must be true, and equal token for token in both. The questions are of kinds that the model answers
reliably; how often it is right in general, its card says.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from chiasm.api_paths import CHAT_PATH
from chiasm.ask import chat_body, phases
from chiasm.cli import announce, prepare, watch
from chiasm.client import EndpointError, get_json, post_json
from chiasm.cluster import Cluster, ClusterFailed, ray_session
from chiasm.config import ClusterConfig, GatewayConfig
from chiasm.cores import beside_decoders
from chiasm.display import StartDisplay
from chiasm.engine import Engine, EngineFailed
from chiasm.listening import require_free_port
from chiasm.models.builtin import picture_file
from chiasm.preflight import ModelFacts
from chiasm.unsplit import unsplit_engine

ANSWER_TOKENS = 32
POLLING_S = 1.5


@dataclass(frozen=True)
class Case:
    """A question about bundled pictures (or none), and the truth."""

    pictures: tuple[str, ...]
    question: str
    truth: str


CASES = (
    Case(("five",), "What colour is the background?", "yellow"),
    Case(("corner",), "What colour is the triangle?", "pink"),
    Case(("two-sizes",), "What shape is the green shape?", "diamond"),
    Case(("corner",), "Where is the red circle?", "top right"),
    Case(("corner",), "Is the pink triangle left of the red circle?", "yes"),
    Case(("year",), "Read the number.", "2027"),
    Case(("two-sizes",), "Which is larger, the green diamond or the yellow circle?", "the green diamond"),
    Case(("blue-star", "five"), "Which picture has more shapes?", "the second"),
    Case(("two-sizes", "year"), "Which picture shows a yellow circle?", "the first"),
    Case((), "What is the capital of Norway?", "Oslo"),
)


@dataclass(frozen=True)
class Answer:
    """What an endpoint said, and how long it took."""

    text: str
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


def run_demo(console: Console, exit_after: bool, port: int, verbose: bool) -> None:
    """Start everything, ask, compare; exits with 1 unless every answer was true and equal."""
    gateway = GatewayConfig(port=port)
    require_free_port(gateway)
    config, facts = prepare(ClusterConfig(gateway=gateway))
    console.print("starting Ray on this machine, and three engines ...")
    try:
        with ray_session(None, verbose, beside_decoders(config)):
            cluster = Cluster(config, facts, one_machine=True)
            try:
                cluster.start()
                if not _examine(console, cluster, config, facts):
                    console.print("[bold red]not every answer was true and equal[/]")
                    sys.exit(1)
                if not exit_after:
                    announce(cluster.url, facts.name, config.gateway)
                    with _saying_that_it_stops(console):
                        watch(cluster)
            finally:
                cluster.stop()
    except (ClusterFailed, EngineFailed, EndpointError) as error:
        sys.exit(f"the demo failed: {error}")


@contextmanager
def _saying_that_it_stops(console: Console) -> Iterator[None]:
    """Before everything is unwound, which takes its seconds."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("\nstopping ...")
        raise


def _examine(console: Console, cluster: Cluster, config: ClusterConfig, facts: ModelFacts) -> bool:
    with (
        ThreadPoolExecutor(1) as pool,  # left last: it waits for the waiting, which ends with the engine
        unsplit_engine(facts.model, facts.name, config.decoders.engine_args) as whole,
    ):
        waiting = pool.submit(whole.wait_ready, config.engine_start_timeout_s)
        with _saying_that_it_stops(console):
            _wait_ready(console, cluster, whole, waiting)
        # One arrangement after the other: an idle engine goes on polling for a second, on the cores that all share.
        split = [ask(cluster.url, None, facts.name, case) for case in CASES]
        time.sleep(POLLING_S)
        unsplit = [ask(whole.url, whole.spec.token, facts.name, case) for case in CASES]
        good = _compare(console, split, unsplit)
        counters = get_json(cluster.url, "/v1/chiasm/status")["counters"]
        counted = ", ".join(f"{name} {value}" for name, value in counters.items() if value)
        console.print(f"the cluster counted: {counted}")
        return good


def _wait_ready(console: Console, cluster: Cluster, whole: Engine, waiting: Future[None]) -> None:
    begun = time.monotonic()
    with StartDisplay(console) as display:
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


def _compare(console: Console, split_answers: Sequence[Answer], whole_answers: Sequence[Answer]) -> bool:
    table = _new_table()
    true = equal = 0
    for case, split, unsplit in zip(CASES, split_answers, whole_answers, strict=True):
        true += split.text == case.truth
        equal += split.tokens == unsplit.tokens
        table.add_row(*_row(case, split, unsplit))
    console.print(table)
    console.print(f"{true} of {len(CASES)} answers true; {equal} equal to the unsplit engine's, token for token")
    return true == equal == len(CASES)


def ask(url: str, token: str | None, model: str, case: Case) -> Answer:
    """Put the case to an endpoint, greedily.

    Raises:
        EndpointError: it did not answer.
    """
    images = [picture_file(name) for name in case.pictures]
    body = chat_body(model, images, case.question, max_tokens=ANSWER_TOKENS, temperature=0, return_token_ids=True)
    begun = time.monotonic()
    answer, headers = post_json(url, CHAT_PATH, body, token)
    [choice] = answer["choices"]
    seconds = time.monotonic() - begun
    return Answer(choice["message"]["content"], choice["token_ids"], seconds, phases(headers))


def _new_table() -> Table:
    table = Table(
        caption="Times in milliseconds. The split has a core for each half; the whole engine has both.",
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),  # or the questions have little room in a terminal of 80 columns
        pad_edge=False,
    )
    table.add_column("picture", max_width=11)
    table.add_column("question", max_width=27)
    table.add_column("answer", max_width=11)
    table.add_column("", no_wrap=True)
    for heading in ("encode", "decode", "split", "whole"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=len(heading))
    return table


def _row(case: Case, split: Answer, unsplit: Answer) -> tuple[str, ...]:
    if split.text != case.truth:
        verdict = f"[red]✗ {case.truth}[/]"
    elif split.tokens != unsplit.tokens:
        verdict = f"[red]whole: {unsplit.text}[/]"
    else:
        verdict = "[green]✓[/]"
    times = [f"{split.phases[name]:.0f}" if name in split.phases else "–" for name in ("encode", "decode")]
    times += [f"{answer.seconds * 1000:.0f}" for answer in (split, unsplit)]
    return (" + ".join(case.pictures) or "none", case.question, split.text, verdict, *times)
