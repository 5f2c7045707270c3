"""vLLM servers as vLLM ships them, with none of our plugins in them, for what Chiasm is compared with.

Of ours is only what surrounds the process: the guard that ends it with its owner, and the cores that it may use.
"""

import json
import os
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from bench.topologies.setting import SERVED_NAME, SLOTS, Setting
from chiasm.engine import Engine, EngineSpec
from chiasm.nouns import Role
from chiasm.telemetry.engine.memory import RECORDS_VARIABLE
from chiasm.wire.settings import RUNTIME_VARIABLE

SERVER = ("-m", "vllm.entrypoints.openai.api_server")
LOADED_UNASKED = ("general", "platform", "io_processor", "stat_logger")  # groups of plugins that every vLLM loads
LOADED_IF_NAMED = ("endpoint",)
EXAMPLES_STEP_TOKENS = 114_688  # --max-num-batched-tokens of the encoder in vLLM's own example


@dataclass(frozen=True)
class StockSpec(EngineSpec):
    """A vLLM server with nothing of ours on its command line, and without our plugins."""

    def command(self, port: int) -> list[str]:
        """The vLLM server's command line. Requests are not logged, as they are not in Chiasm's engines."""
        command = [sys.executable, *SERVER]
        command += ["--model", self.model, "--served-model-name", self.served_name]
        command += ["--host", self.host, "--port", str(port), "--disable-uvicorn-access-log"]
        return command + list(self.args)

    def environment(self, runtime: Path) -> dict[str, str]:
        """As an engine's of ours, without what our plugins go by."""
        environment = super().environment(runtime)
        for name in (RUNTIME_VARIABLE, RECORDS_VARIABLE, "OTEL_SERVICE_NAME"):
            environment.pop(name, None)
        chosen = os.environ.get("VLLM_PLUGINS")
        names = sorted(_plugins(LOADED_UNASKED)) if chosen is None else chosen.split(",")
        ours = {name for name, value in _plugins(LOADED_UNASKED + LOADED_IF_NAMED).items() if _is_ours(value)}
        environment["VLLM_PLUGINS"] = ",".join(name for name in names if name not in ours)
        return environment


def _plugins(groups: tuple[str, ...]) -> dict[str, str]:
    """Name -> what it loads."""
    return {point.name: point.value for group in groups for point in entry_points(group=f"vllm.{group}_plugins")}


def _is_ours(value: str) -> bool:
    return value.startswith("chiasm.")


def start_stock(name: str, setting: Setting, cpus: str, args: tuple[str, ...], key: str) -> Engine:
    """A server with both halves of the model on these cores; it is still starting."""
    model = str(setting.model)
    spec = StockSpec(name, Role.WHOLE, model, SERVED_NAME, key, cpus=cpus, args=args, records=False)
    return Engine(spec, log=lambda _line: None)


def encoder_args(setting: Setting, folder: str) -> tuple[str, ...]:
    """Of the server that encodes in vLLM's encoder disaggregation.

    Its README requires eager mode, no prefix cache, and a `--max-num-batched-tokens` so high that it never binds: the
    encoder runs no language model, so the flag bounds only how many images it takes into one batch. That is here the
    context of all requests that it runs at once. A step can have no more, so a higher number, as the example's, would
    change nothing but buffers; and the largest image, which is within one context, fits.
    """
    context, slots = setting.number("--max-model-len"), setting.number(SLOTS)
    tokens = context * slots if context and slots else EXAMPLES_STEP_TOKENS
    flags = ("--enforce-eager", "--no-enable-prefix-caching", f"--max-num-batched-tokens={tokens}")
    return (*setting.engine_args, *flags, *_connector("ec_producer", folder))


def decoder_args(setting: Setting, folder: str) -> tuple[str, ...]:
    """Of the server that prefills and decodes there. It holds the vision tower as well, as in the example."""
    return (*setting.engine_args, *_connector("ec_consumer", folder))


def _connector(role: str, folder: str) -> tuple[str, str]:
    settings = {
        "ec_connector": "ECExampleConnector",
        "ec_role": role,
        "ec_connector_extra_config": {"shared_storage_path": folder},
    }
    return ("--ec-transfer-config", json.dumps(settings))
