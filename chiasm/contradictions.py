"""What in a configuration's sections does not go together: fields, by their dotted names, and a message for each."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from chiasm.reserved import TEAM_FLAG, flags, own_step_limits, unlike, unshared_card
from chiasm.teams import too_few_cards

if TYPE_CHECKING:
    from chiasm.config import ClusterConfig

Finding = tuple[str, str]


def contradictions(config: "ClusterConfig") -> list[Finding]:
    """All of them."""
    return [
        *_unlike_halves(config),
        *_nobody(config),
        *_cards(config),
        *_scheduler(config),
        *_no_room(config),
        *_decided_twice(config),
    ]


def _unlike_halves(config: "ClusterConfig") -> Iterator[Finding]:
    for message in unlike(config.encoders.engine_args, config.decoders.engine_args):
        yield "decoders.engine_args", message


def _nobody(config: "ClusterConfig") -> Iterator[Finding]:
    """Without encoders text is answered all the same; without these two nothing is."""
    if not (config.decoders.count or config.wholes.count):
        yield "decoders.count", "it is 0, and so is wholes.count: nobody would generate an answer. Have one of either."


def _cards(config: "ClusterConfig") -> Iterator[Finding]:
    engines = [
        ("encoders", "engine_args", config.encoders, config.encoders.engine_args),
        ("decoders", "engine_args", config.decoders, config.decoders.engine_args),
        ("wholes", "engine_args", config.wholes, config.whole_engine_args),
    ]
    if config.scheduler.stealing != "off":
        engines.append(("encoders", "text_engine_args", config.encoders, config.text_engine_args))
        if config.encoders.gpus:
            for field, message in unshared_card(config.encoders.engine_args, config.encoders.text_engine_args):
                yield f"encoders.{field}", message
    for name, field, pool, args in engines:
        if pool.count and (too_few := too_few_cards(args, pool.gpus, f"{name}.gpus")):
            yield f"{name}.{field}", too_few


def _scheduler(config: "ClusterConfig") -> Iterator[Finding]:
    scheduler = config.scheduler
    if scheduler.stealing != "off" and not config.encoders.count:
        message = "encoders' cards are what steals, and encoders.count is 0. Have an encoder, or set this to off."
        yield "scheduler.stealing", message
    if scheduler.prefill_chunk and (limits := own_step_limits(config.decoders.engine_args)):
        message = f"decoders.engine_args has {limits[0]}, which says the same. Leave one of them out."
        yield "scheduler.prefill_chunk", message
    if config.gateway.port == scheduler.port:
        yield "scheduler.port", f"gateway.port is {scheduler.port} too. Give one of them another."
    if scheduler.heartbeat_timeout_s <= scheduler.heartbeat_s:
        yield (
            "scheduler.heartbeat_timeout_s",
            f"{scheduler.heartbeat_timeout_s} s are over before the next report, which comes after heartbeat_s "
            f"= {scheduler.heartbeat_s} s. Make it several times as long.",
        )


def _no_room(config: "ClusterConfig") -> Iterator[Finding]:
    wire = config.wire
    for name, room in (("store_bytes", wire.store_bytes), ("landing_bytes", wire.landing_bytes)):
        if room < wire.max_item_bytes:
            yield (
                f"wire.{name}",
                f"{room} bytes have no room for one embedding of wire.max_item_bytes = {wire.max_item_bytes}. "
                "Raise the one or lower the other.",
            )


def _decided_twice(config: "ClusterConfig") -> Iterator[Finding]:
    """What `roles: auto` decides, or has no room for."""
    if config.roles == "given":
        if config.cards:
            yield "cards", "is for roles: auto alone. Say that, or leave it out."
        return
    for name, pool in (("encoders", config.encoders), ("decoders", config.decoders)):
        for field in ("count", "gpus", "labels", "fallbacks", "cpus"):
            if field in pool.model_fields_set:
                yield f"{name}.{field}", "is decided by roles: auto. Leave one of them out."
    if TEAM_FLAG in dict(flags(config.decoders.engine_args)):
        yield "decoders.engine_args", f"{TEAM_FLAG} is decided by roles: auto. Leave one of them out."
    if config.wholes.count:
        yield "wholes.count", "roles: auto leaves them no cards. Set it to 0, or leave roles out."
