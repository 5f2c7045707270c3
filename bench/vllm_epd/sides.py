"""What is compared: Chiasm's split and vLLM's own, on the same two cores, with the same model and arguments."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from bench.model import build_bench_model
from bench.topologies.arrangement import Arrangement
from bench.topologies.arrangements import calibrate, starting
from bench.topologies.chiasm_cluster import cluster_config, serving
from bench.topologies.resources import require
from bench.topologies.running import Cluster, Running
from bench.topologies.setting import Setting
from bench.vllm_epd.figures import OURS, THEIRS


@contextmanager
def both(calibrated: bool) -> Iterator[dict[str, Running]]:
    """Both of them, still starting. Unless `calibrated`, ours leaves its prefill chunk to vLLM, as theirs does.

    Raises:
        BadSetting, NotEnough: this machine is too small.
        NotServing, NotCalibrated: the chunk could not be measured.
    """
    setting = Setting(build_bench_model())
    require((Arrangement.SPLIT, Arrangement.VLLM_EPD), setting)
    if calibrated:
        calibrate(Arrangement.SPLIT, setting)  # before anything else runs
    with _split(setting, calibrated) as ours, starting(Arrangement.VLLM_EPD, setting) as theirs:
        yield {OURS: ours, THEIRS: theirs}


@contextmanager
def _split(setting: Setting, calibrated: bool) -> Iterator[Running]:
    key = secrets.token_urlsafe(16)
    config = cluster_config(Arrangement.SPLIT, setting, key)
    if not calibrated:
        config["scheduler"]["prefill_chunk"] = 0
    with serving(Arrangement.SPLIT, config) as program:
        yield Cluster(Arrangement.SPLIT, program, key)
