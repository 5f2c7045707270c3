"""A configuration with `roles: auto` becomes one whose pools are given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from chiasm.config import ClusterConfig
from chiasm.config_section import Contradiction
from chiasm.reserved import TEAM_FLAG
from chiasm.silicon.demand import Demand, Traffic
from chiasm.silicon.doubts import doubts
from chiasm.silicon.fleet import ACCELERATOR_LABEL, fleet_of
from chiasm.silicon.roles import Choice, Fleet, NoRoles, choose
from chiasm.silicon.words import explained, warnings


@dataclass(frozen=True)
class Assigned:
    """What came of it."""

    config: ClusterConfig
    reasons: list[str]
    warnings: list[str]


def assign(
    config: ClusterConfig, names: Mapping[str, int], model: Mapping[str, Any], traffic: Traffic | None = None
) -> Assigned:
    """Divide the cards of these names between the pools, for the model with this `config.json`.

    Raises:
        UnknownCard: a name is not in the table.
        UnknownDemand: what the model asks cannot be told.
        NoRoles: these cards cannot be divided, or what the configuration says beside does not go with it.
    """
    if not names:
        raise NoRoles("roles: auto has no cards to divide. Name them under cards, or set the pools yourself.")
    demand = Demand(model, traffic or Traffic())
    try:
        choice = choose(fleet_of(names), demand)
    except NoRoles as error:
        raise NoRoles(" ".join([str(error), *doubts(names, None, demand)])) from error
    found = [*doubts(names, choice, demand), *warnings(choice, demand, config.scheduler.stealing != "off")]
    return Assigned(_with_pools(config, choice), explained(choice, demand), found)


def _with_pools(config: ClusterConfig, choice: Choice) -> ClusterConfig:
    both = _ray_names(choice.encoders) & _ray_names(choice.decoders)
    if both and choice.encoders.keys().isdisjoint(choice.decoders):
        raise NoRoles(
            f"Ray calls cards of both halves {both.pop()}, so they cannot be told apart by its own label. "
            "Label their nodes, and set count, gpus and labels of encoders and decoders yourself."
        )
    data = config.model_dump(exclude_unset=True, exclude={"roles", "cards"})
    encoders, decoders = (data.setdefault(name, {}) for name in ("encoders", "decoders"))
    encoders.update(count=sum(choice.encoders.values()), gpus=1.0, labels=_labels(choice.encoders))
    workers = sum(count // choice.team for count in choice.decoders.values())
    decoders.update(count=workers, gpus=float(choice.team), labels=_labels(choice.decoders))
    if choice.team > 1:
        decoders["engine_args"] = [*config.decoders.engine_args, f"{TEAM_FLAG}={choice.team}"]
        if config.scheduler.stealing != "off":  # a text engine gets the arguments of decoders, and has one card
            encoders["text_engine_args"] = [f"{TEAM_FLAG}=1", *config.encoders.text_engine_args]
    try:
        return ClusterConfig.model_validate(data)
    except ValidationError as error:
        causes = [each["ctx"]["error"] for each in error.errors() if "ctx" in each]
        raise NoRoles(" ".join(str(cause) for cause in causes if isinstance(cause, Contradiction))) from error


def _labels(fleet: Fleet) -> dict[str, str]:
    names = sorted(_ray_names(fleet))
    return {ACCELERATOR_LABEL: names[0] if len(names) == 1 else f"in({','.join(names)})"}


def _ray_names(fleet: Fleet) -> set[str]:
    return {card.ray for card in fleet}
