"""What is the same for all arrangements that are compared: the model, the cores, the objective, the engines' arguments.

Three things are shared out rather than repeated: cores, the KV cache, and the requests that run at once. The arguments
say how much of the latter two there is in the whole arrangement.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiasm.capacity import number_of
from chiasm.engine_guard import parse_cpus
from chiasm.reserved import KV_BYTES, own_step_limits, refused_flags

SERVED_NAME = "model"
SLOTS = "--max-num-seqs"
KV_CACHE_BYTES = 128 << 20  # 14,563 tokens of the bench model
COMMON_ARGS = (
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=2048",
    f"{SLOTS}=16",
    f"{KV_BYTES}={KV_CACHE_BYTES}",
    "--mm-processor-cache-gb=0.25",
)
"""For the bench model on a core or two; equal for all is the principle, not what vLLM would choose for one of them.

Without `--enforce-eager` an engine compiles at its start; vLLM on a CPU does that if nobody tells. Its cache of
processed pictures would grow to 4 GiB in each engine, since every picture is a new one. How much a step computes is
left out: there the arrangements differ.
"""


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
    has one; a single engine has both. All of an engine's processes have the engine's cores, its front-end too, and its
    OpenMP threads are bound to them. The client and routers have both lists; what else lies between client and engines
    has the encoder's alone, where that one does not generate. The first is `pace` times slower than the second.
    `engine_args` are vLLM's, the same for every engine, but for the bytes of the KV cache and the number of requests at
    once: those are of all engines that generate together.

    Raises:
        BadSetting: cores that overlap or that this process may not use, or arguments that cannot be the same for all.
    """

    model: Path
    cores: tuple[str, str] = field(default_factory=first_two_cores)
    itl_slo_ms: float = 200.0
    engine_args: tuple[str, ...] = COMMON_ARGS
    pace: int = 1

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
        if self.pace < 1:
            raise BadSetting(f"the pace is {self.pace}. Write 1 for cores of equal speed, 2 for half the speed.")
        if limits := own_step_limits(self.engine_args):
            raise BadSetting(f"{limits[0]} is what arrangements differ in. Leave it out of the engines' arguments.")
        if refused := refused_flags(self.engine_args):
            raise BadSetting(refused[0])
        self.shared(1)

    @property
    def all_cores(self) -> str:
        """Both halves, as one list."""
        return ",".join(self.cores)

    def shared(self, engines: int) -> tuple[str, ...]:
        """The arguments of each of so many engines that generate, which have cache and slots between them.

        Raises:
            BadSetting: they do not say how much of these there is, or there is too little for so many.
        """
        args = self.engine_args
        for flag in (KV_BYTES, SLOTS):
            try:
                total = number_of(self.engine_args, flag)
            except ValueError as error:
                raise BadSetting(f"{flag} must be a plain number, which can be shared out.") from error
            if total is None:
                raise BadSetting(f"The engines' arguments must have {flag}, or each would take what it likes.")
            if total < engines:
                raise BadSetting(f"{flag}={total} cannot be shared out to {engines} engines. Give more.")
            if engines > 1:
                args = (*args, f"{flag}={total // engines}")
        return args

    def slower(self, cpus: str) -> int:
        """How many times slower an engine on these cores is than one on the second list's."""
        return self.pace if cpus == self.cores[0] else 1

    def described(self) -> dict[str, Any]:
        """For reports and journals."""
        return {
            "model": self.model.name,
            "cores": list(self.cores),
            "itl_slo_ms": self.itl_slo_ms,
            "engine_args": list(self.engine_args),
            "pace": self.pace,
        }

    def number(self, flag: str) -> int | None:
        """The number that the arguments give for this flag, if they do."""
        return number_of(self.engine_args, flag)


def kv_bytes(args: Sequence[str]) -> int:
    """What these arguments of an engine say: of a flag that is there twice, the last counts."""
    return number_of(args, KV_BYTES) or 0
