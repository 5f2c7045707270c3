"""Starts an arrangement, or several that are up together so that what is measured of them can be interleaved.

Each has its own ports, runtime folders and key. An arrangement that nobody asks costs next to nothing.
"""

import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench.topologies import epd_proxy, router
from bench.topologies.arrangement import CALIBRATED, CLUSTERS, Arrangement
from bench.topologies.calibration import chunk_flags
from bench.topologies.chiasm_cluster import cluster_config, is_calibrated, serving
from bench.topologies.program import Program, start
from bench.topologies.resources import require
from bench.topologies.running import Cluster, Engines, Running
from bench.topologies.setting import Setting
from bench.topologies.stock import decoder_args, encoder_args, start_stock
from chiasm.engine import Engine


@contextmanager
def starting(arrangement: Arrangement, setting: Setting) -> Iterator[Running]:
    """It comes back at once, with engines still starting, and ends everything at the end.

    A calibrated one whose prefill chunk is not known yet is measured first, a minute and more: see `calibrate`.

    Raises:
        NotEnough: it does not fit into what memory is free.
        NotServing, NotCalibrated: its prefill chunk could not be measured.
    """
    require([arrangement], setting)
    with _started(arrangement, setting) as running:
        yield running


@contextmanager
def starting_all(arrangements: Sequence[Arrangement], setting: Setting) -> Iterator[dict[Arrangement, Running]]:
    """Several that are up together, all still starting. Prefill chunks are measured before, with nothing else up.

    Raises:
        NotEnough: they do not fit together.
        NotServing, NotCalibrated: a prefill chunk could not be measured.
        PreflightFailed: the model cannot be split, and one of them does.
    """
    require(arrangements, setting)
    for arrangement in arrangements:
        calibrate(arrangement, setting)
    with ExitStack() as stack:
        yield {arrangement: stack.enter_context(_started(arrangement, setting)) for arrangement in arrangements}


def calibrate(arrangement: Arrangement, setting: Setting) -> None:
    """Have its prefill chunk measured if it has one and that is not known yet. Nothing else should run meanwhile.

    Raises:
        NotServing, NotCalibrated: it could not be measured.
        PreflightFailed: the model cannot be split, and the arrangement does.
    """
    if arrangement in CALIBRATED:
        for cpus in _cores(arrangement, setting):
            chunk_flags(setting, cpus, _mono_args(arrangement, setting))
    elif arrangement in CLUSTERS and not is_calibrated(cluster_config(arrangement, setting, "")):
        with _started(arrangement, setting) as running:
            running.wait_ready()  # the decoder has measured itself by then


@contextmanager
def _started(arrangement: Arrangement, setting: Setting) -> Iterator[Running]:
    key = secrets.token_urlsafe(16)
    if arrangement in CLUSTERS:
        with serving(arrangement, cluster_config(arrangement, setting, key)) as program:
            yield Cluster(arrangement, program, key)
    elif arrangement is Arrangement.VLLM_EPD:
        with _vllm_epd(setting, key) as running:
            yield running
    else:
        with _mono(arrangement, setting, key) as running:
            yield running


def _cores(arrangement: Arrangement, setting: Setting) -> tuple[str, ...]:
    """Of each engine of a monolithic arrangement."""
    twice = arrangement in (Arrangement.MONO_X2, Arrangement.MONO_X2_CALIBRATED)
    return setting.cores if twice else (setting.all_cores,)


def _mono_args(arrangement: Arrangement, setting: Setting) -> tuple[str, ...]:
    return setting.shared_kv(len(_cores(arrangement, setting)))


@contextmanager
def _mono(arrangement: Arrangement, setting: Setting, key: str) -> Iterator[Engines]:
    args = _mono_args(arrangement, setting)
    with ExitStack() as stack:
        engines: list[Engine] = []
        for cpus in _cores(arrangement, setting):
            flags = chunk_flags(setting, cpus, args) if arrangement in CALIBRATED else ()
            engines.append(_engine(stack, f"{arrangement}-{cpus}", setting, cpus, args + flags, key))
        urls = [engine.url for engine in engines]
        front = _front(stack, f"{arrangement}'s router", router.__name__, urls) if len(engines) > 1 else None
        yield Engines(arrangement, engines, front, key)


@contextmanager
def _vllm_epd(setting: Setting, key: str) -> Iterator[Engines]:
    name = Arrangement.VLLM_EPD
    with ExitStack() as stack:
        # On a disk as in vLLM's example; its connector never removes what it has written.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vllm-epd-"))
        roles = (("encoder", encoder_args), ("decoder", decoder_args))
        engines = [
            _engine(stack, f"{name}-{role}", setting, cpus, args(setting, folder), key)
            for (role, args), cpus in zip(roles, setting.cores, strict=True)
        ]
        front = _front(stack, f"{name}'s proxy", epd_proxy.__name__, [engine.url for engine in engines])
        yield Engines(name, engines, front, key)


def _engine(stack: ExitStack, name: str, setting: Setting, cpus: str, args: tuple[str, ...], key: str) -> Engine:
    engine = start_stock(name, setting, cpus, args, key)
    stack.callback(engine.stop)
    return engine


def _front(stack: ExitStack, name: str, module: str, urls: Sequence[str]) -> Program:
    program = Program(start([sys.executable, "-m", module, *urls]), name)
    stack.callback(program.stop)
    return program
