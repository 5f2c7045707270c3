"""How arguments of engines are written in `cluster.yaml`: a list, in which a flag and its value are two items, or one
with a = between them."""

import re
from collections.abc import Iterator, Sequence

import yaml

_GLUED = re.compile(r"(--?[A-Za-z][\w.-]*)\s+(\S.*)", re.DOTALL)
_QUOTING = re.compile(r"[\"'{}\\]")


def as_list(words: str) -> str | None:
    """What is written in one text, as a list of its words in YAML; None where quotes hold some of them together."""
    return None if _QUOTING.search(words) else _in_brackets(re.split(r",?\s+", words.strip()))


def glued(args: Sequence[str]) -> Iterator[str]:
    """A message for each argument that has a flag and its value in it, which vLLM would take for one word."""
    for argument in args:
        if match := _GLUED.fullmatch(argument):
            apart = as_list(argument) or _in_brackets([match[1], match[2]])
            yield f'"{argument}" is one argument, and vLLM wants a flag and its value apart. Write {apart}.'


def _in_brackets(items: list[str]) -> str:
    return yaml.safe_dump(items, default_flow_style=True, width=1 << 20).strip()
