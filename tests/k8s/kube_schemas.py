"""What an API server would refuse: built-in kinds by Kubernetes' schemas, Ray's kinds by those of their definitions.

The tools are `kubernetes-validate`, `jsonschema` and `cel-python`; each is imported where it is used.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KUBERNETES = "1.37"
SCHEMAS = Path(__file__).parent / "schemas"
RAY_KINDS = ("RayCluster", "RayJob")
MONITORING = "monitoring.coreos.com/v1"  # no schemas of these come with any tool here

Object = dict[str, Any]


def refused(thing: Object) -> list[str]:
    """Why an API server would not take this object; of the Prometheus operator's kinds nothing is known."""
    if thing["kind"] in RAY_KINDS:
        return [*_by_schema(thing), *_by_cel(thing)]
    if thing["apiVersion"] == MONITORING:
        return []
    return _built_in(thing)


def _built_in(thing: Object) -> list[str]:
    import kubernetes_validate

    try:
        kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


@functools.cache
def _schema(kind: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{kind.lower()}_v1.json").read_text()))


def _by_schema(thing: Object) -> list[str]:
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in _schema(thing["kind"]).iter_errors(thing)]


def _by_cel(thing: Object) -> Iterator[str]:
    """Rules of a definition; those on changes (`oldSelf`) are true of an object that is new."""
    for path, rule, message, program in _rules(thing["kind"]):
        for value in _values(thing, path):
            if not holds(program, value):
                yield f"{'.'.join(path)}: {message} ({rule})"


@functools.cache
def _rules(kind: str) -> list[tuple[tuple[str, ...], str, str, Any]]:
    import celpy

    environment = celpy.Environment()
    return [
        (tuple(each["path"]), each["rule"], each["message"], environment.program(environment.compile(each["rule"])))
        for each in json.loads((SCHEMAS / "cel_rules.json").read_text())
        if each["kind"] == kind and "oldSelf" not in each["rule"]
    ]


def holds(program: Any, value: Any) -> bool:
    """Whether a rule is true of a value."""
    import celpy

    return bool(program.evaluate({"self": celpy.json_to_cel(value)}))


def _values(thing: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield thing
    elif path[0] == "*":
        for each in thing:
            yield from _values(each, path[1:])
    elif path[0] in thing:
        yield from _values(thing[path[0]], path[1:])
