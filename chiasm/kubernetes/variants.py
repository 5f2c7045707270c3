"""A Kustomize component out of two renderings: what turns the one into the other, as JSON patches (RFC 6902).

Each value is tested before it is replaced, so that a component never changes what it was not made for. A strategic
merge would not do: it replaces lists of custom resources as a whole.
"""

from typing import Any

from chiasm.kubernetes.names import Object

Operation = dict[str, Any]


class Unlike(ValueError):
    """Two renderings have not the same objects."""


def component(before: list[Object], after: list[Object]) -> Object:
    """The component that makes `after` of `before`: objects of the same kinds and names, in the same order.

    Raises:
        Unlike: they are not.
    """
    if [_identity(each) for each in before] != [_identity(each) for each in after]:
        raise Unlike("a variant changes values of objects, and adds or takes none")
    patches = [
        {"target": _target(old), "operations": found}
        for old, new in zip(before, after, strict=True)
        if (found := operations(old, new))
    ]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": patches,
    }


def operations(old: Any, new: Any, path: str = "") -> list[Operation]:
    """The patch that makes `new` of `old`."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[Operation] = []
        for key in old:
            where = f"{path}/{_escaped(key)}"
            if key not in new:
                found += [{"op": "test", "path": where, "value": old[key]}, {"op": "remove", "path": where}]
            else:
                found += operations(old[key], new[key], where)
        added = [key for key in new if key not in old]
        return found + [{"op": "add", "path": f"{path}/{_escaped(key)}", "value": new[key]} for key in added]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            operation
            for index, (one, other) in enumerate(zip(old, new, strict=True))
            for operation in operations(one, other, f"{path}/{index}")
        ]
    return [{"op": "test", "path": path, "value": old}, {"op": "replace", "path": path, "value": new}]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _identity(thing: Object) -> tuple[object, object]:
    metadata: Any = thing["metadata"]
    return thing["kind"], metadata["name"]


def _target(thing: Object) -> Object:
    kind, name = _identity(thing)
    group, _, version = str(thing["apiVersion"]).rpartition("/")
    return {**({"group": group} if group else {}), "version": version, "kind": kind, "name": name}
