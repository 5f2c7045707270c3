"""Where Ray has put a worker, and whether that is where its pool wanted it. Pure; must not import Ray.

Ray's selectors: https://docs.ray.io/en/latest/ray-core/scheduling/labels.html. A value may be "v", "!v", "in(v,w)" or
"!in(v,w)"; a node without the label fits the negative ones.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SELECTOR = re.compile(r"(!?)(?:in\((.*)\)|(.*))")


@dataclass(frozen=True)
class Landing:
    """Where a worker is."""

    address: str  # of its node
    fallback: str = ""  # what to tell of it if it has taken a fallback of its pool
    node: str = ""  # Ray's id of its node


def fits(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with these labels is one that `selector` asks for."""
    return all(_fits(wanted, labels.get(name)) for name, wanted in selector.items())


def _fits(wanted: str, value: str | None) -> bool:
    match = _SELECTOR.fullmatch(wanted)
    assert match is not None  # it fits any text of one line
    values = [each.strip() for each in match[2].split(",")] if match[2] is not None else [match[3]]
    return (value in values) != bool(match[1])


def fallback_taken(labels: Mapping[str, str], fallbacks: Sequence[Mapping[str, str]], node: Mapping[str, str]) -> str:
    """What to tell of a worker on a node with the labels `node`, whose pool has these selectors; nothing if it is where
    it belongs."""
    if fits(labels, node):
        return ""
    taken = next((each for each in fallbacks if fits(each, node)), {})
    place = f"a node with {_named(taken)}" if taken else "any node"
    return f"no node with {_named(labels)} could take it, so it runs on {place}: a fallback of its pool"


def _named(selector: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in selector.items())
