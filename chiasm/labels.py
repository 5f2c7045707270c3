"""Labels of nodes, and how Ray's selectors choose by them.

Ray has taken over Kubernetes' grammar of labels (kubernetes.io/docs/concepts/overview/working-with-objects/labels), but
for prefixes of names, where it takes more. A selector's value may also be `!value`, `in(a,b)` or `!in(a,b)`
(docs.ray.io/en/latest/ray-core/scheduling/labels.html).
"""

import re
from collections.abc import Iterator, Mapping

WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
"""A label's value, and its name without the prefix."""

_WORD = re.compile(WORD)
_SELECTOR = re.compile(rf"!?(?:{WORD}|in\({WORD}(?:, ?{WORD})*\))")
_RAY_PREFIX = re.compile(rf"(?:{WORD})?(?:\.(?:{WORD})?)*")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_MOST_OF_A_SUBDOMAIN = 253

_FORM = "at most 63 letters, digits, -, _ and ., the first and the last a letter or a digit"


def is_subdomain(name: str) -> bool:
    """Whether it is a DNS subdomain, as most objects of Kubernetes are called, and prefixes of labels."""
    return len(name) <= _MOST_OF_A_SUBDOMAIN and _SUBDOMAIN.fullmatch(name) is not None


def is_label_name(key: str) -> bool:
    """Whether Kubernetes takes it for the name of a label."""
    prefix, slash, bare = key.rpartition("/")
    return _WORD.fullmatch(bare) is not None and (not slash or is_subdomain(prefix))


def is_label_value(value: str) -> bool:
    """Whether Kubernetes takes it for the value of a label."""
    return not value or _WORD.fullmatch(value) is not None


def label_faults(labels: Mapping[str, str]) -> Iterator[str]:
    """What keeps these from being labels of a Kubernetes node."""
    for key, value in labels.items():
        if not is_label_name(key):
            yield f'"{key}" is no name of a label: {_FORM}, and before it perhaps a domain and /.'
        if not is_label_value(value):
            yield f'"{value}" for {key} is no value of a label: {_FORM}.{_instead(value)}'


def selector_faults(selector: Mapping[str, str]) -> Iterator[str]:
    """What Ray would refuse in these labels that a worker asks of its node."""
    for key, wanted in selector.items():
        prefix, slash, bare = key.rpartition("/")
        in_a_domain = len(prefix) <= _MOST_OF_A_SUBDOMAIN and _RAY_PREFIX.fullmatch(prefix)
        if not _WORD.fullmatch(bare) or (slash and not in_a_domain):
            yield f'"{key}" is no name of a label: {_FORM}, and before it perhaps a domain and /.'
        if wanted and not _SELECTOR.fullmatch(wanted):
            yield (
                f'"{wanted}" for {key} chooses nothing. Write v, !v, in(v,w) or !in(v,w), with values of {_FORM}.'
                f"{_instead(wanted)}"
            )


def named_values(wanted: str) -> tuple[bool, list[str]]:
    """Of a selector's value: whether a node must have one of the values that it names, or none; and these values."""
    values = wanted.removeprefix("!")
    if values.startswith("in("):
        return not wanted.startswith("!"), [each.strip() for each in values[len("in(") : -1].split(",")]
    return not wanted.startswith("!"), [values]


def _instead(value: str) -> str:
    """What is probably meant: whoever labels nodes by what they have writes - for a blank."""
    near = "-".join(value.split())
    return f" Do you mean {near}?" if near != value and _WORD.fullmatch(near) else ""
