"""What an engine's owner tells the embedding connector inside it: plain JSON on vLLM's command line, so no secrets.

Secrets, sockets and landed embeddings lie in the engine's runtime folder, whose path is in the environment.
"""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from chiasm.config import WireConfig
from chiasm.nouns import WorkerId
from chiasm.wire.keys import ClusterKeys

RUNTIME_VARIABLE = "CHIASM_RUNTIME"
"""Environment variable of an engine's processes: the engine's runtime folder."""


class ConnectorSettings(BaseModel):
    """Settings of either half of the connector."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    worker: WorkerId
    model_revision: str  # fingerprint of the weights and the configuration they are served with
    listen: str | None = None  # where the encoder's half binds, e.g. `tcp://10.0.0.7:*`; None: in the runtime folder
    security: Literal["auto", "curve"] = "auto"
    wire: WireConfig = WireConfig()

    @classmethod
    def of(cls, vllm_config: Any) -> "ConnectorSettings":
        """The settings in an engine's `ec_connector_extra_config`."""
        return cls.model_validate(vllm_config.ec_transfer_config.ec_connector_extra_config)


def runtime_folder() -> Path:
    """The runtime folder of the engine that this process belongs to.

    Raises:
        RuntimeError: this process belongs to no engine that Chiasm started.
    """
    folder = os.environ.get(RUNTIME_VARIABLE)
    if folder is None:
        raise RuntimeError(f"{RUNTIME_VARIABLE} is not set: this connector runs only in engines that Chiasm starts")
    return Path(folder)


def load_keys(runtime: Path) -> ClusterKeys | None:
    """The cluster's keys, if the engine was given any."""
    path = runtime / "keys.json"
    return ClusterKeys.load(path) if path.exists() else None


def event_endpoint(runtime: Path) -> str:
    """Where the engine's owner listens for events of the connector."""
    return f"ipc://{runtime}/events"
