"""The `chiasm` command: parses, asks the right room, prints. Heavy imports happen in the commands that need them."""

import os
import signal
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from chiasm import __version__
from chiasm.client import API_KEY_VARIABLE
from chiasm.client_commands import ask, explain, status
from chiasm.config import ClusterConfig, GatewayConfig
from chiasm.config_fields import describe
from chiasm.config_file import ConfigError, load_config
from chiasm.config_view import configuration
from chiasm.cores import beside_decoders
from chiasm.display import StartDisplay
from chiasm.drain_command import drain
from chiasm.keys_file import KEYS_HELP, load_keys
from chiasm.kubernetes.command import render
from chiasm.listening import require_free_port
from chiasm.preflight import ModelFacts, PreflightFailed, check_model
from chiasm.profile.command import profile
from chiasm.ray_token import use_own_token
from chiasm.silicon.assigned import assign
from chiasm.silicon.command import NO_ROLES, model_facts, roles
from chiasm.timeline_command import timeline

console = Console(highlight=False)

WATCH_S = 2.0
RAY_SESSION = "/tmp/ray/session_latest"  # the next Ray that starts on this machine moves it
DEFAULT_PORT = GatewayConfig().port


def about(field: str) -> str:
    """What the configuration says of one of its fields, as the help of an option."""
    text = describe(field).description
    return f"{text[0].upper()}{text[1:]}."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Serve a vision-language model with its two halves on different silicon.

    Encoder workers turn images into embeddings, decoder workers generate tokens, and an OpenAI-compatible endpoint
    stands before them.

    \b
    Try it:      chiasm demo
    Serve:       chiasm serve Qwen/Qwen2.5-VL-7B-Instruct --encoders 2 --decoders 1
    Ask it:      chiasm ask cat.jpg "What is this?"
    Look at it:  chiasm status
    """


@main.command()
@click.argument("model", required=False)
@click.option("--encoders", type=click.IntRange(1), help="Number of encoder workers.")
@click.option("--decoders", type=click.IntRange(1), help="Number of decoder workers.")
@click.option("--wholes", type=click.IntRange(0), help="Number of whole workers beside them.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file; options here override it.")
@click.option("--keys", "keys_file", type=click.Path(path_type=Path), help=KEYS_HELP)
@click.option("--address", help="Ray cluster to run on, auto for the one this machine belongs to; unset runs one here.")
@click.option("--host", help=about("gateway.host"))
@click.option("--port", type=click.IntRange(0, 65535), help=about("gateway.port"))
@click.option("--verbose", is_flag=True, help="Show the engines' logs as they come.")
def serve(
    model: str | None,
    encoders: int | None,
    decoders: int | None,
    wholes: int | None,
    config_file: Path | None,
    keys_file: Path | None,
    address: str | None,
    host: str | None,
    port: int | None,
    verbose: bool,
) -> None:
    """Serve MODEL (a hub id or a folder) until Ctrl-C. Without MODEL, the small built-in one is served.

    \b
    Two encoders and one decoder on this machine:
      chiasm serve /models/Qwen2.5-VL-7B-Instruct --encoders 2 --decoders 1
    On the Ray cluster that this machine belongs to, placed as cluster.yaml says:
      chiasm serve --config cluster.yaml --address auto
    """
    options = {
        "model": model,
        "encoders.count": encoders,
        "decoders.count": decoders,
        "wholes.count": wholes,
        "gateway.host": host,
        "gateway.port": port,
    }
    try:
        given = {name: value for name, value in options.items() if value is not None}
        config = load_config(config_file, {**given, **load_keys(keys_file)})
    except ConfigError as error:
        sys.exit(str(error))
    _until_interrupted(lambda: _serve(config, address, verbose))


def _until_interrupted(program: Any) -> None:
    """Run `program`; Ctrl-C and SIGTERM end it, and a second one does not interrupt its cleaning up."""

    def interrupt(_number: int, _frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        program()
    except KeyboardInterrupt:
        console.print("stopped")


def prepare(config: ClusterConfig) -> tuple[ClusterConfig, ModelFacts]:
    """The configuration with its model filled in, and what vLLM says of that model; exits where it cannot be split."""
    from chiasm.models.builtin import with_builtin_model

    config = with_builtin_model(config)
    assert config.model is not None
    console.print(f"checking that {config.model} can be split ...")
    stealing = config.scheduler.stealing != "off"
    # A text engine's arguments are a decoder's and a few more, and so tell as much of the model.
    engine_args = config.text_engine_args if stealing else config.decoders.engine_args
    try:
        facts = check_model(config.model, config.served_model_name, config.revision, engine_args)
    except PreflightFailed as error:
        sys.exit(str(error))
    fields = ", ".join(facts.metadata_fields)
    console.print(f"  {facts.architecture}: yes (an image travels as {fields} and its embedding)")
    if stealing:
        console.print(f"  stealing is on: each encoder's node holds {text_engine_memory(facts)} as well")
    if config.wholes.count:
        console.print(f"  whole workers: the node of each of {config.wholes.count} holds {whole_model(facts)}")
    return config, facts


def whole_model(facts: ModelFacts) -> str:
    """What a whole worker's engine holds beside its KV cache, in words."""
    if not (facts.language_model_bytes and facts.vision_tower_bytes):
        return "both halves of the model"
    size = (facts.language_model_bytes + facts.vision_tower_bytes) / 1e9
    return f"both halves of the model ({size:.2f} GB)"


def text_engine_memory(facts: ModelFacts) -> str:
    """What the second engine of an encoder's card takes, in words."""
    weights = f" ({facts.language_model_bytes / 1e9:.2f} GB)" if facts.language_model_bytes else ""
    cache = ""
    if facts.kv_cache_bytes:
        tokens = f" for up to {facts.kv_cache_bytes // facts.kv_token_bytes:,} tokens" if facts.kv_token_bytes else ""
        cache = f" ({facts.kv_cache_bytes / 1e9:.2f} GB{tokens})"
    return f"the language model{weights} and a KV cache{cache}"


def _serve(config: ClusterConfig, address: str | None, verbose: bool) -> None:
    if address is None:
        use_own_token()
    from chiasm.cluster import Cluster, ClusterFailed, gpus_by_name, ray_session

    require_free_port(config.gateway)
    config, facts = prepare(config)
    console.print(f"joining Ray at {address} ..." if address else "starting Ray on this machine ...")
    try:
        with ray_session(address, verbose, beside_decoders(config) if address is None else None):
            if config.roles == "auto":
                config = with_roles(config, gpus_by_name())
            cluster = Cluster(config, facts, one_machine=address is None)
            try:
                cluster.start()
                with StartDisplay(console) as display:
                    cluster.wait_ready(display.show)
                announce(cluster.url, facts.name, config.gateway)
                watch(cluster)
            except KeyboardInterrupt:
                console.print(f"\nstopping; what is being answered may go on for {config.gateway.drain_s:g} s ...")
                raise
            finally:
                cluster.stop()
    except ClusterFailed as error:
        sys.exit(f"the cluster did not come up: {error}")


def with_roles(config: ClusterConfig, reported: dict[str, int]) -> ClusterConfig:
    """The pools that `roles: auto` makes of `config.cards`, or else of the `reported` ones; says why, or exits."""
    try:
        assigned = assign(config, config.cards or reported, model_facts(config))
    except NO_ROLES as error:
        sys.exit(str(error))
    for line in assigned.reasons:
        console.print(line, markup=False)
    for warning in assigned.warnings:
        console.print(f"warning: {warning}", markup=False)
    return assigned.config


def announce(url: str, model: str, gateway: GatewayConfig) -> None:
    """Say where the endpoint is, and how to speak to it. Keys are not shown, as whatever is printed may be kept."""
    console.print(f"\n[bold green]ready[/]: {url}/v1   (model: {model})\n")
    export = bearer = ""
    if gateway.operator_keys or gateway.api_keys:
        of = "gateway.operator_keys" if gateway.operator_keys else "gateway.api_keys"
        export = f"  export {API_KEY_VARIABLE}=...   # one of {of}\n"
        bearer = f'-H "Authorization: Bearer ${API_KEY_VARIABLE}" '
    console.print(
        f"{export}  curl {url}/v1/chat/completions {bearer}-H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"model": "{model}", "max_tokens": 16, "messages": [{{"role": "user", "content": "Hello"}}]}}\'\n'
        f"  chiasm status --endpoint {url}\n\n"
        f"The engines' logs are among Ray's: {os.path.realpath(RAY_SESSION)}/logs/worker-*.out. "
        "Ctrl-C stops the cluster.",
        soft_wrap=True,
        markup=False,
    )


def watch(cluster: Any) -> None:
    """Until interrupted, say when a worker is lost, and why, when it is back, and when it is not where it belongs."""
    from chiasm.member import NO_ANSWER, RESTARTED
    from chiasm.supervisor import LEAVING

    down: dict[str, str] = {}
    astray: dict[str, str] = {}
    while True:
        time.sleep(WATCH_S)
        for member in cluster.progress():
            if member.stage == NO_ANSWER:
                continue
            why = str(member.error).partition("\n")[0]
            if not member.ready and member.name not in down:
                down[member.name] = why
                leaves = "leaves, to start again when its node ends"
                what = leaves if member.stage == LEAVING else "is down, and being started again"
                console.print(f"{member.name} {what}: {member.error}", markup=False)
            elif not member.ready and member.error and member.stage != RESTARTED and down[member.name] != why:
                down[member.name] = why
                console.print(f"{member.name} is still down: {member.error}", markup=False)
            elif member.ready and down.pop(member.name, None) is not None:
                console.print(f"{member.name} is back")
            if member.fallback and astray.get(member.name) != member.fallback:
                console.print(f"warning: {member.name}: {member.fallback}", markup=False)
            if member.ready or member.fallback:
                astray[member.name] = member.fallback


@main.command()
@click.argument("model")
@click.option("--revision", help=about("revision"))
def check(model: str, revision: str | None) -> None:
    """Say whether MODEL (a hub id, a folder, or pupil) can be split, before any engine starts."""
    from chiasm.models.builtin import with_builtin_model

    console.print(f"asking vLLM about {model} ...")
    config = with_builtin_model(ClusterConfig(model=model, revision=revision))
    assert config.model is not None
    try:
        facts = check_model(config.model, config.served_model_name, revision, config.decoders.engine_args)
    except PreflightFailed as error:
        sys.exit(str(error))
    fields = ", ".join(facts.metadata_fields)
    console.print(f"{model} ({facts.architecture}) can be split: an image travels as {fields} and its embedding.")


@main.command()
@click.option("--exit", "exit_after", is_flag=True, help="Stop the cluster at the end instead of leaving it up.")
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help=about("gateway.port")
)
@click.option("--verbose", is_flag=True, help="Show the engines' logs as they come.")
def demo(exit_after: bool, port: int, verbose: bool) -> None:
    """Ask about pictures, of a split cluster and of one unsplit engine.

    The exit code is 0 only if every answer is true, and equal in both, token for token.
    """
    use_own_token()
    from chiasm.demo import run_demo

    _until_interrupted(lambda: run_demo(console, exit_after, port, verbose))


for _command in (ask, status, explain, timeline, profile, configuration, roles, render, drain):
    main.add_command(_command)

# Rooms that the spine must not import bring their commands along as entry points.
for _room in entry_points(group="chiasm.commands"):
    main.add_command(_room.load(), _room.name)
