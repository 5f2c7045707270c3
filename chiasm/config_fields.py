"""The fields of `chiasm.config`, in words: what each takes, its default, its description.

Errors, `chiasm config` and the help of the command line are made from these, so no text is written twice.
"""

import difflib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from chiasm.config import ClusterConfig
from chiasm.pools import PoolConfig

_WORDS: dict[Any, tuple[str, str]] = {
    str: ("a text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
}


@dataclass(frozen=True)
class Described:
    """One field."""

    name: str  # dotted, e.g. "gateway.port"
    takes: str  # what it accepts, e.g. "a whole number from 0 to 65535"
    default: Any  # as YAML would have it: scalars, lists and dicts
    description: str
    secret: bool  # its value is not to be shown


@dataclass(frozen=True)
class DescribedSection:
    """A section and its fields."""

    name: str  # "" for the top of the file
    description: str
    fields: tuple[Described, ...]


def sections() -> list[DescribedSection]:
    """Every section: the top of the file first, then the others in the order of the file."""
    return [_section("", ClusterConfig)] + [_section(name, model) for name, model in _models().items()]


def describe(name: str) -> Described:
    """The field with that dotted name.

    Raises:
        KeyError: there is none.
    """
    return {field.name: field for section in sections() for field in section.fields}[name]


def section_fields(name: str) -> list[str]:
    """Names of the fields in a section; `""` is the top of the file, which has the sections themselves as well."""
    return list(_models()[name].model_fields if name else ClusterConfig.model_fields)


def suggestion(section: str, unknown: str) -> str:
    """What somebody meant who wrote `unknown` in `section`, as a sentence."""
    prefix = f"{section}." if section else ""
    here = section_fields(section)
    elsewhere = [f"{name}.{unknown}" for name in _models() if unknown in section_fields(name)]
    elsewhere += [unknown] if section and unknown in section_fields("") else []
    if elsewhere:
        return f"Did you mean {' or '.join(elsewhere)}?"
    if near := difflib.get_close_matches(unknown, here, 1):
        return f"Did you mean {prefix}{near[0]}?"
    pool = issubclass(_models().get(section, ClusterConfig), PoolConfig)
    vllm = f" vLLM's own options go into {prefix}engine_args." if pool else ""
    return f"There are: {', '.join(here)}.{vllm}"


def _models() -> dict[str, type[BaseModel]]:
    return {
        name: field.annotation
        for name, field in ClusterConfig.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def _section(name: str, model: type[BaseModel]) -> DescribedSection:
    fields = tuple(
        Described(
            f"{name}.{key}" if name else key,
            _takes(field.annotation, field.metadata),
            field.get_default(call_default_factory=True, validated_data={}),
            field.description or "",
            not field.repr,
        )
        for key, field in model.model_fields.items()
        if key not in _models() or name
    )
    return DescribedSection(name, (model.__doc__ or "").strip(), fields)


def _takes(annotation: Any, metadata: list[Any], plural: bool = False) -> str:
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        return _takes(annotation, [*metadata, *_flat(more)], plural)
    arguments = get_args(annotation)
    if get_origin(annotation) is types.UnionType:  # the only unions here are with None
        [one] = (argument for argument in arguments if argument is not type(None))
        return f"{_takes(one, metadata)}, or null"
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, arguments))
    if get_origin(annotation) is list:
        return f"a list of {_takes(arguments[0], [], plural=True)}"
    if get_origin(annotation) is dict:
        return f"{'mappings' if plural else 'a mapping'} of names to {_takes(arguments[1], [], plural=True)}"
    return _WORDS[annotation][plural] + _bounds(metadata, whole=annotation is int)


def _flat(metadata: list[Any]) -> Iterator[Any]:
    for each in metadata:
        yield from each.metadata if isinstance(each, FieldInfo) else [each]


def _bounds(metadata: list[Any], whole: bool) -> str:
    found = {kind: getattr(each, kind) for each in metadata for kind in ("gt", "ge", "lt", "le") if hasattr(each, kind)}
    least, most = found.get("ge"), found.get("le")
    if whole and "gt" in found:
        least = found["gt"] + 1
    if least is not None and most is not None:
        return f" from {least} to {most}"
    words = {"gt": "above", "lt": "below", "le": "at most"}
    if least is not None:
        return f", {least} or more"
    return "".join(f" {words[kind]} {bound}" for kind, bound in found.items())
