"""The pools of `cluster.yaml`: encoders, decoders, and workers with both halves. Part of `chiasm.config`."""

from typing import Self

from pydantic import Field, model_validator

from chiasm.arguments import glued
from chiasm.config_section import Contradiction, Section
from chiasm.engine_guard import parse_cpus
from chiasm.labels import selector_faults
from chiasm.reserved import decoders_flags, refused_flags, refused_variables


class PoolConfig(Section):
    """One pool of equal workers."""

    count: int = Field(1, ge=0, description="workers in the pool")
    cpus: list[str] | None = Field(
        None,
        description='cores per worker, e.g. ["0-3", "4-7"]; unset shares the machine\'s cores evenly on CPU. On one '
        "machine Ray, gateway and scheduler keep off those on which somebody decodes",
    )

    gpus: float = Field(0, ge=0, description="GPUs per worker (Ray's num_gpus)")
    resources: dict[str, float] = Field(default_factory=dict, description="custom Ray resources per worker")
    labels: dict[str, str] = Field(
        default_factory=dict, description='Ray node labels to require, e.g. {"ray.io/node-group": "encode-l40s"}'
    )
    fallbacks: list[dict[str, str]] = Field(
        default_factory=list,
        description="labels to require instead, the first that Ray finds a node for, where none with `labels` can take "
        "a worker; {} is any node. Whoever lands there says so (chiasm status)",
    )
    engine_args: list[str] = Field(default_factory=list, description="extra arguments for the vLLM server")
    env: dict[str, str] = Field(default_factory=dict, repr=False, description="extra environment for the vLLM server")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = [("engine_args", message) for message in (*refused_flags(self.engine_args), *glued(self.engine_args))]
        found += [("env", message) for message in refused_variables(self.env)]
        found += [("cpus", message) for message in self._wrong_cores()]
        found += [("labels", message) for message in selector_faults(self.labels)]
        found += [("fallbacks", message) for labels in self.fallbacks for message in selector_faults(labels)]
        if self.fallbacks and not self.labels:
            found.append(("fallbacks", "there are no labels that they stand in for. Set labels, or leave them out."))
        if found:
            raise Contradiction(found)
        return self

    def _wrong_cores(self) -> list[str]:
        if self.cpus is None:
            return []
        messages = []
        for cores in self.cpus:
            try:
                parse_cpus(cores)
            except ValueError:
                messages.append(f'"{cores}" is no list of cores. Write them like "0-3" or "0,2,4".')
        if len(self.cpus) < self.count:
            messages.append(
                f"there are cores for {len(self.cpus)} of {self.count} workers, which must not share any. "
                f"Add some, or lower count."
            )
        return messages


class EncodersConfig(PoolConfig):
    """The pool of encoders."""

    text_engine_args: list[str] = Field(
        default_factory=list,
        description="arguments for the text engine on each encoder's card, where scheduler.stealing starts one. It "
        "gets decoders.engine_args, for it must answer as a decoder does, and then these: what differs on this card, "
        "as the size of its KV cache may (--kv-cache-memory-bytes). With GPUs that must be set here, and for both "
        "engines their part of the card: --gpu-memory-utilization in engine_args and here, together at most 1",
    )

    @model_validator(mode="after")
    def _text_engine(self) -> Self:
        args = self.text_engine_args
        if found := [*refused_flags(args), *decoders_flags(args), *glued(args)]:
            raise Contradiction([("text_engine_args", message) for message in found])
        return self


class WholesConfig(PoolConfig):
    """The pool of whole workers, with both halves of the model on one engine, beside encoders and decoders."""

    count: int = Field(
        0,
        ge=0,
        description="workers in the pool. An image goes to one where it would be answered before encoders and decoders "
        "could, if the streams there keep to scheduler.itl_slo_ms; text goes wherever it is answered first "
        "(docs/split_or_stay.md)",
    )
    engine_args: list[str] = Field(
        default_factory=list,
        description="arguments for the vLLM server after those in decoders.engine_args, which it gets as well, for it "
        "must answer as a decoder does: what differs on this card",
    )

    @model_validator(mode="after")
    def _as_decoders(self) -> Self:
        if found := decoders_flags(self.engine_args):
            raise Contradiction([("engine_args", message) for message in found])
        return self
