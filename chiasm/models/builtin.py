"""The model that is served when none is named, and the pictures that go with it."""

import os
from importlib.resources import files
from pathlib import Path

from chiasm.config import ClusterConfig, PoolConfig
from chiasm.models.tiny import build_tiny_model

NAME = "tiny-vl"

ENGINE_ARGS = (
    "--dtype=float32",  # so that answers can be compared token for token
    "--enforce-eager",  # compiling takes longer than such a model saves
    "--max-model-len=4096",
    "--kv-cache-memory-bytes=268435456",
)


def with_builtin_model(config: ClusterConfig) -> ClusterConfig:
    """`config` with the built-in model, which is built at its first use; unchanged if it names a model."""
    if config.model is not None:
        return config

    def suited(pool: PoolConfig) -> PoolConfig:
        return pool.model_copy(update={"engine_args": [*ENGINE_ARGS, *pool.engine_args]})

    return config.model_copy(
        update={
            "model": str(build_tiny_model(_cache() / NAME)),
            "served_model_name": config.served_model_name or NAME,
            "encoders": suited(config.encoders),
            "decoders": suited(config.decoders),
        }
    )


def bundled_pictures() -> list[Path]:
    """The pictures in the package, by name."""
    folder = Path(str(files("chiasm.models") / "pictures"))
    return sorted(folder.glob("*.png"))


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "chiasm"
