"""`chiasm ask`, `status`, `explain` and `timeline`: the commands that speak to a running endpoint."""

import sys

import click

from chiasm.api_paths import CHAT_PATH
from chiasm.ask import AskError, chat_body, phases, served_model, split_arguments, stream_answer
from chiasm.client import EndpointError, get_json, post_json, request_path
from chiasm.client_options import api_key as _api_key
from chiasm.client_options import endpoint as _endpoint
from chiasm.client_options import request_id as _request_id
from chiasm.display import table_console
from chiasm.explain import reasons_table
from chiasm.status_view import status_tables

console = table_console()

_as_json = click.option("--json", "as_json", is_flag=True, help="The gateway's answer as it is.")


@click.command()
@click.argument("given", nargs=-1, required=True, metavar="[IMAGE]... QUESTION")
@_endpoint
@_api_key
@click.option("--model", help="Model to ask; unset asks the one that is served.")
@click.option("--system", help="A system prompt.")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer; unset leaves it to the model.")
@_as_json
@click.option("--timing", is_flag=True, help="Say on stderr where the time went.")
def ask(
    given: tuple[str, ...],
    endpoint: str,
    api_key: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    as_json: bool,
    timing: bool,
) -> None:
    """Put QUESTION to a running endpoint, about any number of IMAGEs: files, or http(s) addresses if it fetches them.

    \b
      chiasm ask cat.jpg "What is this?"
      chiasm ask before.png after.png "What has changed?"
      chiasm ask "What is the optic chiasm?"
    """
    try:
        images, question = split_arguments(given)
        body = chat_body(model, images, question, system=system, max_tokens=max_tokens)
        if model is None:
            body["model"] = served_model(endpoint, api_key)
        if as_json:
            whole, headers = post_json(endpoint, CHAT_PATH, body, api_key)
            console.print_json(data=whole)
            took = [f"{name} {duration:.0f} ms" for name, duration in phases(headers).items()]
            named = [f"request {headers['x-request-id']}"] if "x-request-id" in headers else []
            spent = ", ".join([*took, *named])
        else:
            with stream_answer(endpoint, body, api_key) as answer:
                try:
                    for piece in answer:
                        click.echo(piece, nl=False)
                finally:
                    click.echo()  # an error gets a line of its own
            spent = answer.timing()
            if answer.finish_reason == "length":
                click.echo("(cut off: the answer reached its longest; see --max-tokens)", err=True)
    except (AskError, EndpointError) as error:
        sys.exit(str(error))
    if timing:
        click.echo(spent, err=True)


@click.command()
@_endpoint
@_api_key
@_as_json
def status(endpoint: str, api_key: str | None, as_json: bool) -> None:
    """Show the workers of a running cluster and what they are doing.

    \b
    running       encodes or requests that its engine has been handed
    waiting       encodes assigned to it and withheld, until it takes them
    slots         how many its engine runs at once
    KV tokens     how many its KV cache has room for
    tokens/s      vision tokens (encoders) or output tokens (others); assumed
                  until its first answers are measured
    images held   whose embeddings it keeps, for decoders and for the next request
                  with the same image
    withheld      requests that wait in the scheduler for an engine that generates

    \b
    Of text engines on encoders' cards (docs/stealing.md):
    paused        whether it stands still, as an image is encoded there
    encoder busy  for how much of the last minute or so
    patience s    for how long its encoder must have been idle before it takes
                  anything
    may hold      requests: as many as a decoder holds, by how much slower it is
                  than one
    """
    try:
        report = get_json(endpoint, "/v1/chiasm/status", api_key)
    except EndpointError as error:
        sys.exit(str(error))
    if as_json:
        console.print_json(data=report)
        return
    for table in status_tables(report):
        console.print(table)


@click.command()
@_request_id
@_endpoint
@_api_key
@_as_json
def explain(request_id: str, endpoint: str, api_key: str | None, as_json: bool) -> None:
    """Say why a request was treated as it was: where it was encoded and decoded, what else was considered.

    REQUEST_ID is the X-Request-Id of the answer; `chiasm ask --timing` prints it.
    """
    try:
        found = get_json(endpoint, f"{request_path(request_id)}/reasons", api_key)
    except EndpointError as error:
        sys.exit(str(error))
    if as_json:
        console.print_json(data=found)
    else:
        console.print(reasons_table(request_id, found["reasons"]))
