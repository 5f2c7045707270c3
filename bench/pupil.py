"""`chiasm bench pupil`: what the built-in model gets right through the split, and whether it says the same unsplit."""

import base64
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.json_option import json_option
from bench.report import write_report
from bench.serving import serving_builtin_model
from chiasm.api_paths import CHAT_PATH
from chiasm.ask import chat_body
from chiasm.client import EndpointError, post_json
from chiasm.engine import EngineFailed
from chiasm.models.builtin import ENGINE_ARGS, NAME, model_folder
from chiasm.models.training.drawing import draw
from chiasm.models.training.examination import MARKS, Exercise, Marks, examination
from chiasm.unsplit import unsplit_engine

SEED = 2
"""Of pictures by which nothing about the training was ever decided: change it whenever something was."""
NUMBER, QUICK_NUMBER = 400, 20  # exercises of each kind
AT_ONCE = 4  # requests under way
ANSWER_TOKENS = 160  # the longest true answer is a story
START_TIMEOUT_S = 600.0

CARD_BEGIN, CARD_END = "<!-- examination -->", "<!-- end of the examination -->"

console = Console(highlight=False)


@dataclass(frozen=True)
class Said:
    """An answer, as text and as token ids."""

    text: str
    tokens: tuple[int, ...]


@click.command()
@click.option(
    "--endpoint", help="Examine this running endpoint alone, instead of a split cluster and an unsplit engine."
)
@click.option("--number", type=click.IntRange(1), help=f"Exercises of each kind.  [default: {NUMBER}]")
@click.option("--quick", is_flag=True, help=f"{QUICK_NUMBER} exercises of each kind.")
@json_option
@click.option(
    "--card",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Put the figures into this model card, between its marks.",
)
def pupil(endpoint: str | None, number: int | None, quick: bool, json_file: Path | None, card: Path | None) -> None:
    """Examine the built-in model on pictures of any size that training never showed.

    An answer is right if it is the expected one, character by character. Both arrangements answer the same exercises,
    greedily and in float32, and their token ids are compared.
    """
    if card is not None and endpoint is not None:
        raise click.UsageError("A model card has the figures of both arrangements. Leave --endpoint out.")
    if find_spec("matplotlib") is None:
        raise click.UsageError("The fonts of the pictures come with matplotlib. Cure: pip install matplotlib")
    number = number or (QUICK_NUMBER if quick else NUMBER)
    exercises = examination(str(SEED), number)
    try:
        with ExitStack() as running:
            url = endpoint or running.enter_context(serving_builtin_model(console))
            split = _examine("split" if endpoint is None else "endpoint", exercises, url, None)
        whole = _examine_whole(exercises) if endpoint is None else None
    except (EndpointError, EngineFailed) as error:
        sys.exit(str(error))
    marks = Marks.of(exercises, [said.text for said in split]).table()
    whole_marks = None if whole is None else Marks.of(exercises, [said.text for said in whole]).table()
    equal = None if whole is None else sum(map(Said.__eq__, split, whole)) / len(exercises)
    series: list[dict[str, Any]] = [
        {"kind": kind, **figures, **({} if whole_marks is None else {"right_whole": whole_marks[kind]["right"]})}
        for kind, figures in marks.items()
    ]
    _show(series, equal)
    if json_file is not None:
        headline = {f"right: {kind}": figures["right"] for kind, figures in marks.items()}
        if equal is not None:
            headline["equal through the split and whole"] = round(equal, 5)
        command = f"chiasm bench pupil --number {number}" + (f" --endpoint {endpoint}" if endpoint else "")
        write_report(json_file, name="pupil", command=command, headline=headline, series=series, seeds=[SEED])
    if card is not None:  # after the report, which tells whether the checkout was as committed
        fill_card(card, card_table(series))


def _examine_whole(exercises: list[Exercise]) -> list[Said]:
    with unsplit_engine(str(model_folder()), NAME, ENGINE_ARGS) as engine:
        with console.status("starting the unsplit engine ..."):
            engine.wait_ready(START_TIMEOUT_S)
        return _examine("whole", exercises, engine.url, engine.spec.token)


def _examine(name: str, exercises: list[Exercise], url: str, token: str | None) -> list[Said]:
    ask: Callable[[Exercise], Said] = lambda exercise: _ask(exercise, url, token)  # noqa: E731
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(ask, exercises)
        return list(track(answers, description=name, total=len(exercises), console=console))


def _ask(exercise: Exercise, url: str, token: str | None) -> Said:
    images = [_data_url(exercise, index) for index in range(len(exercise.scenes))]
    body = chat_body(
        None, images, exercise.question.text, max_tokens=ANSWER_TOKENS, temperature=0, return_token_ids=True
    )
    answer, _ = post_json(url, CHAT_PATH, body, token)
    [choice] = answer["choices"]
    return Said(choice["message"]["content"], tuple(choice["token_ids"]))


def _data_url(exercise: Exercise, index: int) -> str:
    buffer = io.BytesIO()
    draw(exercise.scenes[index]).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def fill_card(card: Path, table: str) -> None:
    """Replace what stands between the card's marks.

    Raises:
        click.UsageError: it has none.
    """
    before, begin, rest = card.read_text().partition(CARD_BEGIN)
    _, end, after = rest.partition(CARD_END)
    if not end:
        raise click.UsageError(f"{card} has no lines {CARD_BEGIN} and {CARD_END} to put the figures between.")
    card.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


def card_table(series: Sequence[Mapping[str, Any]]) -> str:
    """The figures as the model card has them, in Markdown, and which of them miss their mark."""
    rows = ["| exercise | asked | mark | right through the split | right unsplit |", "|---|---:|---:|---:|---:|"]
    for row in series:
        mark = f"{100 * MARKS[row['kind']]:.0f} %" if row["kind"] in MARKS else ""
        shares = [f"{100 * row[name]:.1f} %" for name in ("right", "right_whole")]
        rows.append(f"| {row['kind']} | {row['asked']} | {mark} | {' | '.join(shares)} |")
    missed = [row["kind"] for row in series if row["right"] < MARKS.get(row["kind"], 0.0)]
    told = f"**Below their mark: {', '.join(missed)}.**" if missed else "All marks are met."
    return "\n".join([*rows, "", told])


def _show(series: list[dict[str, Any]], equal: float | None) -> None:
    table = Table("kind", "asked", "right")
    for row in series:
        table.add_row(row["kind"], str(row["asked"]), f"{100 * row['right']:.1f} %")
    console.print(table)
    if equal is not None:
        console.print(f"{100 * equal:.2f} % of the answers are equal, token for token, through the split and whole")
