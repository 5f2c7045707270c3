"""`chiasm roles`: which of these cards should encode and which decode, before anything starts."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from chiasm.config import ClusterConfig
from chiasm.config_file import ConfigError, load_config
from chiasm.hub import ModelUnreadable, model_config
from chiasm.silicon.assigned import Assigned, assign
from chiasm.silicon.cards import UnknownCard
from chiasm.silicon.demand import Traffic, UnknownDemand
from chiasm.silicon.fleet import NotACount, written_cards
from chiasm.silicon.roles import NoRoles

NO_ROLES = (ModelUnreadable, UnknownCard, UnknownDemand, NoRoles)
"""Why roles could not be chosen; each message says what to do."""


@click.command()
@click.argument("model", required=False)
@click.option("--cards", metavar="LIST", help='What the fleet has, e.g. "8x rtx-4090, 4x h100-sxm".')
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file; options here override it.")
@click.option("--image-tokens", type=click.IntRange(1), default=Traffic.image_tokens, show_default=True)
@click.option("--text-tokens", type=click.IntRange(0), default=Traffic.text_tokens, show_default=True)
@click.option("--answer-tokens", type=click.IntRange(1), default=Traffic.answer_tokens, show_default=True)
@click.option("--streams", type=click.IntRange(1), default=Traffic.streams, show_default=True, help="Answered at once.")
def roles(
    model: str | None,
    cards: str | None,
    config_file: Path | None,
    image_tokens: int,
    text_tokens: int,
    answer_tokens: int,
    streams: int,
) -> None:
    """Say which cards should encode for MODEL and which decode, why, and whether a split gains anything.

    Nothing is started. The pools are printed as `roles: auto` would set them, from what the cards' makers say of them.

    \b
      chiasm roles Qwen/Qwen2.5-VL-7B-Instruct --cards "8x l4, 4x a100-80gb"
      chiasm roles --config cluster.yaml
    """
    options = {"model": model, "roles": "auto", "cards": written(cards) if cards else None}
    try:
        config = load_config(config_file, {name: value for name, value in options.items() if value is not None})
        traffic = Traffic(image_tokens, text_tokens, answer_tokens, streams)
        show(assign(config, config.cards, model_facts(config), traffic))
    except (ConfigError, *NO_ROLES) as error:
        sys.exit(str(error))


def written(cards: str) -> dict[str, int]:
    """`written_cards`, as an option's value."""
    try:
        return written_cards(cards)
    except NotACount as error:
        raise click.BadParameter(str(error), param_hint="--cards") from error


def model_facts(config: ClusterConfig) -> Mapping[str, Any]:
    """The `config.json` of its model, every field of it present.

    Raises:
        ModelUnreadable: it cannot be read.
    """
    from chiasm.models.builtin import with_builtin_model

    config = with_builtin_model(config)
    assert config.model is not None
    return model_config(config.model, config.revision)


def show(assigned: Assigned) -> None:
    """Print the reasons, the warnings, and the pools as they would stand in a file."""
    for line in assigned.reasons:
        click.echo(line)
    for warning in assigned.warnings:
        click.echo(f"warning: {warning}", err=True)
    pools = assigned.config.model_dump(include={"encoders", "decoders"}, exclude_unset=True)
    click.echo("\n# cluster.yaml\n" + yaml.safe_dump(pools, sort_keys=False), nl=False)
