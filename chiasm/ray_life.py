"""What Ray knows of the actor that asks, for actors, which do not import Ray themselves."""

import ray


def is_another_life() -> bool:
    """Has Ray made this actor anew, after an earlier process of it has ended? To be asked in the actor."""
    return bool(ray.get_runtime_context().was_current_actor_reconstructed)
