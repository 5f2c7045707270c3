"""The section `kubernetes` of `cluster.yaml`: what pods need that Chiasm itself does not.

It is part of `chiasm.config`, so this module must not import that.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from chiasm.config_section import Contradiction, Section
from chiasm.kubernetes.grammar import is_image, is_namespace
from chiasm.kubernetes.rules import of_name
from chiasm.labels import is_label_name, is_label_value, is_subdomain, label_faults

PARTS = ("head", "gateway", "encoders", "decoders", "wholes")
"""Kinds of pods: Ray's head, the one with gateway and scheduler, and the pools as `cluster.yaml` calls them."""

CPUS = {"head": 2, "gateway": 4, "encoders": 4, "decoders": 4, "wholes": 4}
MEMORY = {"head": "4Gi", "gateway": "8Gi", "encoders": "16Gi", "decoders": "16Gi", "wholes": "16Gi"}

_BYTES = re.compile(r"([1-9][0-9]*)([KMGT]i)")
_NEARLY_BYTES = re.compile(r"\s*([1-9][0-9]*)\s*([KMGTkmgt])")
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_TAINT = re.compile(r"(?P<key>[^=:\s]+)(=(?P<value>[^=:\s]*))?:(?P<effect>NoSchedule|PreferNoSchedule|NoExecute)")


def _amount(value: Any) -> Any:
    if isinstance(value, str) and _BYTES.fullmatch(value):
        return value
    near = _NEARLY_BYTES.match(str(value))
    cure = f"Write {near[1]}{near[2].upper()}i" if near else "Write it like 16Gi"
    raise ValueError(f"takes a whole number with Ki, Mi, Gi or Ti; not {value}. {cure}.")


Bytes = Annotated[str, BeforeValidator(_amount)]


class KubernetesConfig(Section):
    """Pods, where `chiasm render` makes manifests of this file; else without meaning."""

    name: str = Field("chiasm", description="name of the Ray cluster, and of all that belongs to it alone")
    namespace: str = Field("chiasm", description="namespace of all objects")
    image: str = Field("chiasm:cpu", description="image of the engines' pods; `docker/` has what to build it from")
    cpu_image: str | None = Field(
        None, description="image of the head and the gateway, whose nodes need no GPU; unset takes image"
    )
    nodes: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="labels of the Kubernetes nodes that pods may run on, by part (head, gateway, encoders, decoders, "
        'wholes), e.g. {encoders: {"nvidia.com/gpu.product": "NVIDIA-L40S"}}',
    )
    tolerations: dict[str, list[str]] = Field(
        default_factory=dict,
        description='taints of nodes that pods tolerate, by part, e.g. {encoders: ["spot=true:NoSchedule"]}; pods with '
        "GPUs tolerate nvidia.com/gpu:NoSchedule anyway",
    )
    cpus: dict[str, Annotated[int, Field(gt=0)]] = Field(
        default_factory=dict,
        description=f"cores of a pod, by part; {', '.join(f'{part} {count}' for part, count in CPUS.items())} if unset",
    )
    memory: dict[str, Bytes] = Field(
        default_factory=dict,
        description="memory of a pod, /dev/shm included, by part; "
        f"{', '.join(f'{part} {size}' for part, size in MEMORY.items())} if unset",
    )
    model_cache: Bytes = Field("64Gi", description="disk of a node that a pod's copy of the model may take")
    model_claim: str | None = Field(
        None,
        description="PersistentVolumeClaim with the models (the hub's cache), at /models in all pods, instead of a "
        "copy in each; many must be able to mount it",
    )
    model_in_pods: bool = Field(
        False,
        description="whether pods have the folder that `model` names, in their image or on a volume of an overlay of "
        "yours; otherwise one outside of model_claim is refused",
    )
    monitoring: bool = Field(
        True, description="whether the Prometheus operator is there: PodMonitor, PrometheusRule, Grafana's dashboard"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = [
            (field, f"there is no part {part}. There are: {', '.join(PARTS)}.")
            for field in ("nodes", "tolerations", "cpus", "memory")
            for part in getattr(self, field)
            if part not in PARTS
        ]
        found += [*self._wrong_names(), *self._wrong_labels()]
        if found:
            raise Contradiction(found)
        return self

    def _wrong_names(self) -> Iterator[tuple[str, str]]:
        named = (("RayCluster", self.name), ("RayJob", f"{self.name}-launcher"))
        if refusal := next((each for kind, name in named for each in of_name(kind, name)), None):
            yield "name", str(refusal)
        if not is_namespace(self.namespace):
            form = "at most 63 lower-case letters, digits and -, the first and the last no -"
            yield "namespace", f'"{self.namespace}" is the name of no namespace: {form}.'
        for field, image in (("image", self.image), ("cpu_image", self.cpu_image)):
            if image is not None and not is_image(image):
                yield field, f'"{image}" names no image. Write it like registry.example/chiasm:0.1.0-gpu.'
        if self.model_claim is not None and not is_subdomain(self.model_claim):
            form = "lower-case letters, digits, - and ., the first and the last a letter or a digit"
            yield "model_claim", f'"{self.model_claim}" is the name of no PersistentVolumeClaim: {form}.'

    def _wrong_labels(self) -> Iterator[tuple[str, str]]:
        for part, labels in self.nodes.items():
            for fault in label_faults(labels):
                yield f"nodes.{part}", fault
        for part, taints in self.tolerations.items():
            for taint in taints:
                if not _is_taint(taint):
                    cure = "Write it as kubectl does: key=value:NoSchedule, or key:NoSchedule."
                    yield f"tolerations.{part}", f'"{taint}" is no taint. {cure}'

    def cpus_of(self, part: str) -> int:
        """Cores of a pod of this part."""
        return self.cpus.get(part, CPUS[part])

    def memory_of(self, part: str) -> str:
        """Memory of a pod of this part, as Kubernetes writes it."""
        return self.memory.get(part, MEMORY[part])


def in_bytes(quantity: str) -> int:
    """The bytes of a quantity such as `16Gi`.

    Raises:
        ValueError: it is none.
    """
    match = _BYTES.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity} is no amount of bytes such as 16Gi")
    return int(match[1]) * _UNITS[match[2]]


def _is_taint(text: str) -> bool:
    match = _TAINT.fullmatch(text)
    return match is not None and is_label_name(match["key"]) and is_label_value(match["value"] or "")


def toleration(taint: str) -> dict[str, str]:
    """A taint as `kubectl taint` writes it, as the toleration of it in a pod.

    Raises:
        ValueError: it is none.
    """
    match = _TAINT.fullmatch(taint)
    if match is None:
        raise ValueError(f"{taint} is no taint")
    if match["value"] is None:
        return {"key": match["key"], "operator": "Exists", "effect": match["effect"]}
    return {"key": match["key"], "operator": "Equal", "value": match["value"], "effect": match["effect"]}
