"""What is the same for all arrangements that are compared: the model, the cores, the objective, the engines' arguments.

Two things are shared out rather than repeated: cores, and the KV cache. The arguments say how large the latter is in
the whole arrangement.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chiasm.capacity import number_of
from chiasm.engine_guard import parse_cpus
from chiasm.reserved import KV_BYTES, own_step_limits, refused_flags

SERVED_NAME = "model"
KV_CACHE_BYTES = 128 << 20  # 14,563 tokens of the bench model
COMMON_ARGS = (
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=2048",
    "--max-num-seqs=8",
    f"{KV_BYTES}={KV_CACHE_BYTES}",
)
"""For the bench model on a core or two. How much a step computes is left out: there the arrangements differ."""


class BadSetting(ValueError):
    """The arrangements cannot be compared so; the message says why, and what to do."""


def first_two_cores() -> tuple[str, str]:
    """Those that this process may use.

    Raises:
        BadSetting: there is only one.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BadSetting("Arrangements are compared on two cores, and there is one. Cure: a machine with more.")
    return str(cores[0]), str(cores[1])


@dataclass(frozen=True)
class Setting:
    """The same for all that are compared.

    `cores` are two lists like "0" or "0-3". In a split the first encodes and the second decodes; of two replicas each
    has one; a single engine has both. `engine_args` are vLLM's, the same for every engine, but for the bytes of the KV
    cache: those are of all engines that generate together.

    Raises:
        BadSetting: cores that overlap or that this process may not use, or arguments that cannot be the same for all.
    """

    model: Path
    cores: tuple[str, str] = field(default_factory=first_two_cores)
    itl_slo_ms: float = 200.0
    engine_args: tuple[str, ...] = COMMON_ARGS

    def __post_init__(self) -> None:
        try:
            first, second = (parse_cpus(cores) for cores in self.cores)
        except ValueError as error:
            raise BadSetting(f"cores are written like 0 or 0-3, and these are not: {self.cores}") from error
        if first & second:
            raise BadSetting(f"{self.cores[0]} and {self.cores[1]} share a core. Give each half its own.")
        if missing := (first | second) - os.sched_getaffinity(0):
            allowed = sorted(os.sched_getaffinity(0))
            raise BadSetting(f"core {min(missing)} is not one that this process may use: {allowed}")
        if self.itl_slo_ms <= 0:
            raise BadSetting(f"itl_slo_ms is {self.itl_slo_ms}, and no token comes in no time")
        if limits := own_step_limits(self.engine_args):
            raise BadSetting(f"{limits[0]} is what arrangements differ in. Leave it out of the engines' arguments.")
        if refused := refused_flags(self.engine_args):
            raise BadSetting(refused[0])
        self.shared_kv(1)

    @property
    def all_cores(self) -> str:
        """Both halves, as one list."""
        return ",".join(self.cores)

    def shared_kv(self, engines: int) -> tuple[str, ...]:
        """The arguments of each of so many engines that generate, which have the KV cache between them.

        Raises:
            BadSetting: they do not say how large it is.
        """
        try:
            kv_bytes = number_of(self.engine_args, KV_BYTES)
        except ValueError as error:
            raise BadSetting(f"{KV_BYTES} must be a plain number of bytes, which can be shared out.") from error
        if kv_bytes is None:
            raise BadSetting(f"The engines' arguments must have {KV_BYTES}, or each would take what it likes.")
        return (*self.engine_args, f"{KV_BYTES}={kv_bytes // engines}") if engines > 1 else self.engine_args

    def number(self, flag: str) -> int | None:
        """The number that the arguments give for this flag, if they do."""
        return number_of(self.engine_args, flag)


def kv_bytes(args: Sequence[str]) -> int:
    """What these arguments of an engine say: of a flag that is there twice, the last counts."""
    return number_of(args, KV_BYTES) or 0
