"""What Ray knows of the actor that asks, for actors, which do not import Ray themselves."""

from collections.abc import Mapping, Sequence

import ray

from chiasm.landing import Landing, fallback_taken


def is_another_life() -> bool:
    """Has Ray made this actor anew, after an earlier process of it has ended? To be asked in the actor."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)


def landing_here(labels: Mapping[str, str], fallbacks: Sequence[Mapping[str, str]]) -> Landing:
    """Where Ray has put this actor, which these selectors were given for. To be asked in the actor."""
    context = ray.get_runtime_context()
    fallback = fallback_taken(labels, fallbacks, context.get_node_labels())
    return Landing(ray.util.get_node_ip_address(), fallback, context.get_node_id())
