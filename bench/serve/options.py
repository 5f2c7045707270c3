"""What people write on the command line of `chiasm bench serve`, read and checked."""

import functools
import random
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from bench.load.asking import Endpoint
from bench.load.goodput import Objectives
from bench.load.random_mm import RandomMM
from bench.load.recorded import Recorded
from bench.load.texts import NotTokenized, text_for
from bench.load.workloads import MIXES, BadWorkload, Mixed, Workload
from bench.serve.sides import is_started_here
from bench.topologies.arrangement import Arrangement

RANDOM_MM = "random-mm"
WORKLOADS = ", ".join([*MIXES, RANDOM_MM])
ARRANGEMENTS = ", ".join(Arrangement)

# Options that go with one or two of the three things that the command does: load one server, check, compare.
OF_SERVERS = ("rate", "number", "burstiness", "model")  # to load or to check
OF_CHECK = ("tokenizer",)
OF_COMPARISON = ("topologies", "full", "pace", "prices_file", "plot", "resume", "figures_only")
OF_REPEATED = ("rounds",)  # to check or to compare
OF_LOAD = ("goodput", "bursts")  # to load or to compare
OF_ONE = ("max_concurrency", "num_warmups")  # to load
UNTOLD = ("--api-key", "--json", "--plot", "--resume")  # nor what comes after them
UNTOLD_FLAG = "--figures-only"
WRITTEN = "bench.serve.written"
TEXT_SAMPLE = 16  # tokens


@dataclass(frozen=True)
class Options:
    """The command line. What was not written is None, or empty."""

    endpoint: str | None
    model: str | None
    api_key: str | None
    rate: float | None
    number: int | None
    burstiness: float | None
    bursts: int
    max_concurrency: int | None
    num_warmups: int
    workload_names: tuple[str, ...]
    goodput: tuple[tuple[str, float], tuple[str, float]] | None
    topologies: tuple[str, ...]
    full: bool
    rounds: int | None
    pace: int
    prices_file: Path | None
    checking: bool
    tokenizer: str | None
    seed: int
    quick: bool
    json_file: Path | None
    plot: Path | None
    resume: Path | None
    figures_only: bool
    random_mm: RandomMM


class Objective(click.ParamType[tuple[str, float]]):
    """`ttft:MS` and `itl:MS`, written as `vllm bench serve --goodput` has its own, which are of other times."""

    name = "name:ms"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Which, and how many milliseconds."""
        if isinstance(value, tuple):
            return value
        name, _, number = value.partition(":")
        try:
            limit_ms = float(number)
        except ValueError:
            limit_ms = 0.0
        if name not in ("ttft", "itl") or not limit_ms > 0:
            self.fail(f"{value!r} is neither like ttft:5000 nor like itl:200 (milliseconds).", param, ctx)
        return name, limit_ms


def objectives_of(given: tuple[tuple[str, float], tuple[str, float]] | None) -> Objectives | None:
    """Both objectives, whichever was written first.

    Raises:
        click.UsageError: one of them is there twice.
    """
    if given is None:
        return None
    limits = dict(given)
    if len(limits) < 2:
        raise click.UsageError("--goodput takes one ttft:MS and one itl:MS.")
    return Objectives(limits["ttft"], limits["itl"])


class Topology(click.ParamType[str]):
    """An arrangement's name, or the URL of a server."""

    name = "name|URL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same, without a slash at the end."""
        if is_started_here(value):
            return str(value)
        if not value.startswith(("http://", "https://")):
            self.fail(f"{value!r} is neither a URL nor one of: {ARRANGEMENTS}.", param, ctx)
        return str(value).rstrip("/").removesuffix("/v1")


def workload_of(name: str, random_mm: RandomMM) -> Workload:
    """By name, or from a JSONL file.

    Raises:
        click.UsageError: there is no such workload, or the file holds none.
    """
    if name in MIXES:
        return MIXES[name]
    if name == RANDOM_MM:
        return random_mm
    if not name.endswith(".jsonl"):
        raise click.UsageError(f"{name!r} is no workload. Name one of: {WORKLOADS}; or a file that ends in .jsonl.")
    try:
        return Recorded(Path(name))
    except BadWorkload as error:
        raise click.UsageError(str(error)) from error


def worded_for(endpoint: Endpoint, workload: Workload) -> tuple[Workload, str | None]:
    """The workload with prompts of exactly as many of the server's tokens as it draws, if the server can count them.

    Else one letter counts as one token, as it is for the bench model; then the second says why.
    """
    if not isinstance(workload, Mixed | RandomMM):
        return workload, None
    text = functools.partial(text_for, endpoint)
    try:
        text(TEXT_SAMPLE, random.Random(0))
    except NotTokenized as error:
        return workload, f"Prompts are counted in letters, for the server does not count tokens ({error})"
    return replace(workload, text=text), None


class Verbatim(click.Command):
    """A command that knows how it was written."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, which takes them off the list."""
        ctx.meta[WRITTEN] = list(args)
        return super().parse_args(ctx, args)


def written(context: click.Context) -> str:
    """The command line as a report tells it: what decides the figures, and neither keys nor files that are written."""
    words = iter(context.meta[WRITTEN])
    told = []
    for word in words:
        option, equals, _ = word.partition("=")
        if option not in UNTOLD:
            told += [word] if word != UNTOLD_FLAG else []
        elif not equals:
            next(words)
    return " ".join(["chiasm bench serve", *map(shlex.quote, told)])


def refuse(context: click.Context, names: tuple[str, ...], why: str) -> None:
    """End with a message if any of these options was written.

    Raises:
        click.UsageError: one was.
    """
    options: Mapping[str | None, str] = {each.name: each.opts[0] for each in context.command.params}
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{options[name]} {why}")
