"""What is measured: arrangements that are started for it, side by side, or one endpoint that runs already."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.topologies.arrangement import Arrangement
from bench.topologies.arrangements import starting_all
from bench.topologies.running import Remote, Running
from bench.topologies.setting import Setting
from chiasm.client import EndpointError
from chiasm.footprint import footprint
from chiasm.profile.machines import ask_machines
from chiasm.telemetry.live.kv_room import kv_token_bytes

DEFAULT = (Arrangement.SPLIT, Arrangement.MONO_CALIBRATED)
VALUE_BYTES = 4  # of a number in the KV cache of engines that are started here: they run in float32


class Subject(Protocol):
    """The sides, and what they serve."""

    @property
    def sides(self) -> list[str]:
        """Their names."""
        ...

    @property
    def model(self) -> str:
        """In words, so that one subject can be told from another."""
        ...

    def described(self) -> dict[str, Any]:
        """All that decides what they do, as JSON can hold it."""
        ...

    def up(self) -> AbstractContextManager[dict[str, Running]]:
        """All sides, ready, for as long as the context lasts.

        Raises:
            BadSetting, NotServing, NotEnough, NotCalibrated, PreflightFailed: one does not come up, and why.
        """
        ...

    def kv_token_bytes(self) -> int | None:
        """What a token takes of a KV cache; None where nobody tells."""
        ...


@dataclass(frozen=True)
class Arrangements:
    """Of one model, on the same cores."""

    names: Sequence[Arrangement]
    folder: Path

    @property
    def sides(self) -> list[str]:
        """See `Subject`."""
        return [str(name) for name in self.names]

    @property
    def model(self) -> str:
        """See `Subject`."""
        return f"{self.folder.name} (Qwen2.5-VL's architecture, 98 M parameters of language model, random weights)"

    def described(self) -> dict[str, Any]:
        """See `Subject`."""
        return {"sides": self.sides, **Setting(self.folder).described()}

    @contextmanager
    def up(self) -> Iterator[dict[str, Running]]:
        """See `Subject`."""
        with starting_all(self.names, Setting(self.folder)) as running:
            for one in running.values():
                one.wait_ready()
            yield {str(name): one for name, one in running.items()}

    def kv_token_bytes(self) -> int:
        """See `Subject`."""
        config: dict[str, Any] = json.loads((self.folder / "config.json").read_text())
        return footprint(config, VALUE_BYTES).kv


@dataclass(frozen=True)
class OneEndpoint:
    """Whoever serves there; its name is its address."""

    url: str
    key: str | None

    @property
    def sides(self) -> list[str]:
        """See `Subject`."""
        return [self.url]

    @property
    def model(self) -> str:
        """See `Subject`."""
        return f"the one that is served at {self.url}"

    def described(self) -> dict[str, Any]:
        """See `Subject`."""
        return {"sides": self.sides}

    @contextmanager
    def up(self) -> Iterator[dict[str, Running]]:
        """See `Subject`."""
        remote = Remote(self.url, self.key)
        remote.wait_ready()
        yield {self.url: remote}

    def kv_token_bytes(self) -> int | None:
        """See `Subject`: only a gateway of Chiasm's tells."""
        try:
            machines = ask_machines(self.url, self.key).machines.values()
        except EndpointError:
            return None
        return next((kv_token_bytes(machine) for machine in machines if machine.kv_blocks), None)
