"""Chiasm's own arrangements: `chiasm serve --config`, as anybody would start it."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.topologies.arrangement import Arrangement
from bench.topologies.calibration import NotCalibrated
from bench.topologies.program import RUNTIME_PREFIX, Program, guarded, start
from bench.topologies.setting import SERVED_NAME, Setting
from chiasm.calibration import Step
from chiasm.calibration_cache import cache_folder, save
from chiasm.config import ClusterConfig
from chiasm.preflight import check_model
from decoder.prefill_chunk import conditions_here

STOPPED_S = 3600.0
"""Without a heartbeat nobody is given up for so long: longer than others are measured and it is stopped (`turns`)."""


def cluster_config(arrangement: Arrangement, setting: Setting, key: str) -> dict[str, Any]:
    """One encoder and one decoder. Where the encoder's cores have a text engine, the two share KV cache and slots."""
    stealing = arrangement is Arrangement.SPLIT_STEAL
    args = list(setting.shared(2 if stealing else 1))
    encoder, decoder = setting.cores
    return {
        "model": str(setting.model),
        "served_model_name": SERVED_NAME,
        "gateway": {"port": 0, "api_keys": [key]},
        "scheduler": {
            "stealing": "yield" if stealing else "off",
            "itl_slo_ms": float(setting.itl_slo_ms),
            "heartbeat_timeout_s": STOPPED_S,
        },
        "encoders": {"cpus": [encoder], "engine_args": args},
        "decoders": {"cpus": [decoder], "engine_args": args},
    }


def serve_command(config: Mapping[str, Any], folder: Path) -> list[str]:
    """The command that serves this configuration, of which a file is written to `folder`."""
    file = folder / "cluster.yaml"
    file.write_text(json.dumps(config))  # which is YAML, too
    return [str(Path(sys.executable).parent / "chiasm"), "serve", "--config", str(file)]


@contextmanager
def serving(name: str, config: Mapping[str, Any]) -> Iterator[Program]:
    """`chiasm serve` with this configuration, for as long as the context lasts. It is still starting.

    It runs under a guard, so that nothing of it outlives this program, however that ends.
    """
    with tempfile.TemporaryDirectory(prefix=RUNTIME_PREFIX) as folder:
        program = Program(start(guarded(serve_command(config, Path(folder)), folder)), name)
        try:
            yield program
        finally:
            program.stop()


def keep_steps(config: Mapping[str, Any], steps: Sequence[Step]) -> None:
    """Have the decoder know how long its steps take, so that it does not measure them as it starts.

    Asks vLLM of the model.

    Raises:
        PreflightFailed: it cannot be split.
        NotCalibrated: nothing can be kept on this machine.
    """
    whole = ClusterConfig.model_validate(dict(config))
    facts = check_model(str(whole.model), whole.served_model_name, None, whole.decoders.engine_args)
    assert whole.decoders.cpus is not None
    folder = cache_folder()
    if save(folder, conditions_here(whole, facts, whole.decoders.cpus[0]), tuple(steps)) is None:
        raise NotCalibrated(
            f"How long a decoder's steps take cannot be kept in {folder or 'a folder of this user'}, so that it would "
            "measure them while other engines start. Cure: see that this folder can be written to."
        )
