"""Measured step times, kept on the machine that they were measured on: a small JSON file for each engine that differs.

A file is believed only as far as it can be checked. One that is damaged, or of another version, is as good as none.
"""

import logging
from pathlib import Path
from typing import Literal

import msgspec
from blake3 import blake3
from msgspec import Struct

from chiasm.calibration import Step
from chiasm.kept_files import kept_folder, write_whole

logger = logging.getLogger(__name__)


class Conditions(Struct, frozen=True, forbid_unknown_fields=True):
    """All that step times depend on."""

    model: str  # fingerprint of weights and configuration
    processor: str  # the GPUs' names or the CPU's
    cores: int
    vllm: str  # version
    engine: str  # digest of the engine's arguments and environment
    objective_ms: float  # measuring ends where steps get longer


class _Kept(Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    conditions: Conditions
    steps: tuple[Step, ...]


def cache_folder() -> Path | None:
    """Where the files are; None for a user without a home."""
    return kept_folder("steps")


def digest(*parts: object) -> str:
    """Equal for equal parts."""
    return blake3(repr(parts).encode()).hexdigest(8)


def load(folder: Path | None, conditions: Conditions) -> tuple[Step, ...]:
    """What was measured under these conditions; empty if nothing was, or it cannot be read."""
    if folder is None:
        return ()
    path = _path(folder, conditions)
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return ()
    except (OSError, msgspec.DecodeError) as error:
        logger.warning("%s cannot be used, so steps are measured anew: %s", path, error)
        return ()
    return kept.steps if kept.conditions == conditions else ()


def save(folder: Path | None, conditions: Conditions, steps: tuple[Step, ...]) -> Path | None:
    """Keep what was measured; returns the file, or None where it cannot be written: then nothing is lost but time."""
    if folder is None:
        return None
    path = _path(folder, conditions)
    try:
        # Another decoder of this machine may write the same file now.
        write_whole(path, msgspec.json.format(msgspec.json.encode(_Kept(1, conditions, steps))) + b"\n")
    except OSError as error:
        logger.warning("step times are not kept, and the next start measures them again: %s", error)
        return None
    return path


def _path(folder: Path, conditions: Conditions) -> Path:
    return folder / f"{digest(msgspec.structs.astuple(conditions))}.json"
