"""The model that is served when none is named, and the pictures that go with it."""

from importlib.resources import files
from pathlib import Path

from chiasm.config import ClusterConfig
from chiasm.pools import PoolConfig

NAME = "pupil"

ENGINE_ARGS = (
    "--dtype=float32",  # so that answers can be compared token for token
    "--enforce-eager",  # compiling takes longer than such a model saves
    "--max-model-len=4096",
    "--kv-cache-memory-bytes=268435456",
)

PREFILL_CHUNK = 512
"""Tokens: some 2 GFLOP, a tenth of a second on one core of a laptop. So nobody waits for a measurement."""


def with_builtin_model(config: ClusterConfig) -> ClusterConfig:
    """`config` with the built-in model, if it names that one or none; else unchanged."""
    if config.model not in (None, NAME):
        return config

    def suited(pool: PoolConfig) -> PoolConfig:
        return pool.model_copy(update={"engine_args": [*ENGINE_ARGS, *pool.engine_args]})

    scheduler = config.scheduler
    if scheduler.prefill_chunk is None:
        scheduler = scheduler.model_copy(update={"prefill_chunk": PREFILL_CHUNK})
    return config.model_copy(
        update={
            "model": str(model_folder()),
            "served_model_name": config.served_model_name or NAME,
            "scheduler": scheduler,
            "encoders": suited(config.encoders),
            "decoders": suited(config.decoders),
        }
    )


def named_model(name: str) -> str:
    """What vLLM and transformers are told for a model of that name: of the built-in one, its folder."""
    return str(model_folder()) if name == NAME else name


def model_folder() -> Path:
    """Where `pupil` lies in the package: weights, configuration, processor, model card."""
    return _in_package("pupil")


def picture_file(name: str) -> Path:
    """A bundled picture."""
    return _in_package("pictures") / f"{name}.png"


def _in_package(name: str) -> Path:
    return Path(str(files("chiasm.models") / name))
