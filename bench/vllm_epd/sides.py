"""What is compared: Chiasm's split and vLLM's own, on the same two cores, with the same model and arguments."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from bench.topologies.arrangement import Arrangement
from bench.topologies.arrangements import starting, starting_all
from bench.topologies.chiasm_cluster import cluster_config, serving
from bench.topologies.cores import only_on
from bench.topologies.resources import require
from bench.topologies.running import Cluster, Running
from bench.topologies.setting import Setting
from bench.vllm_epd.figures import OURS, THEIRS

BOTH = (Arrangement.SPLIT, Arrangement.VLLM_EPD)


@contextmanager
def both(setting: Setting, calibrated: bool) -> Iterator[dict[str, Running]]:
    """Both of them, still starting. Unless `calibrated`, ours leaves its prefill chunk to vLLM, as theirs does.

    Raises:
        NotEnough: this machine is too small.
        NotServing, NotCalibrated: the chunk could not be measured.
    """
    if calibrated:
        with starting_all(BOTH, setting) as running:
            yield {OURS: running[Arrangement.SPLIT], THEIRS: running[Arrangement.VLLM_EPD]}
        return
    require(BOTH, setting)
    with only_on(setting.all_cores), _uncalibrated(setting) as ours, starting(Arrangement.VLLM_EPD, setting) as theirs:
        yield {OURS: ours, THEIRS: theirs}


@contextmanager
def _uncalibrated(setting: Setting) -> Iterator[Running]:
    key = secrets.token_urlsafe(16)
    config = cluster_config(Arrangement.SPLIT, setting, key)
    config["scheduler"]["prefill_chunk"] = 0
    with serving(Arrangement.SPLIT, config) as program:
        yield Cluster(Arrangement.SPLIT, program, key)
