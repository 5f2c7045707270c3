"""Names of namespaces (kubernetes.io/docs/concepts/overview/working-with-objects/names) and images
(github.com/distribution/reference). Those of labels are in `chiasm.labels`."""

import re

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?"
_REGISTRY = rf"({_LABEL}(\.{_LABEL})*|\[[A-Fa-f0-9:]+\])(:[0-9]+)?/"
_PART = r"[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*"
_TAG = r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{32,}"
_IMAGE = re.compile(rf"({_REGISTRY})?{_PART}(/{_PART})*({_TAG})?({_DIGEST})?")


def is_namespace(name: str) -> bool:
    """Whether a namespace may be called so."""
    return _NAMESPACE.fullmatch(name) is not None


def is_image(name: str) -> bool:
    """Whether it names an image: a path in lower case, and perhaps a registry before it, a tag and a digest after."""
    return _IMAGE.fullmatch(name) is not None
