"""Starts an arrangement, or several that are up together so that what is measured of them can be interleaved.

Each has its own ports, runtime folders and key. One that nobody asks is not quite idle: see `turns`.
"""

import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from bench.load.journal import Spoilt
from bench.topologies import epd_proxy, router
from bench.topologies.arrangement import CALIBRATED, CLUSTERS, Arrangement
from bench.topologies.calibration import chunk_flags, chunk_of, steps_of
from bench.topologies.chiasm_cluster import cluster_config, keep_steps, serving
from bench.topologies.cores import only_on
from bench.topologies.program import NotServing, Program, start
from bench.topologies.resources import require
from bench.topologies.running import Cluster, Disaggregated, Engines, Running
from bench.topologies.setting import Setting
from bench.topologies.stock import decoder_args, encoder_args, start_stock
from chiasm.calibration import Chunk
from chiasm.client import EndpointError
from chiasm.engine import Engine


class EmbeddingsLost(NotServing, Spoilt):
    """A proxy had to ask again, which is slower; the message says whose."""


Chunks = Sequence[Chunk]
"""Of each engine of an arrangement whose steps are bounded to the objective."""


@contextmanager
def starting(arrangement: Arrangement, setting: Setting) -> Iterator[Running]:
    """It comes back with engines still starting, and ends everything at the end: see `starting_all`."""
    with starting_all([arrangement], setting) as running:
        yield running[arrangement]


@contextmanager
def starting_all(arrangements: Sequence[Arrangement], setting: Setting) -> Iterator[dict[Arrangement, Running]]:
    """Several that are up together, all still starting. Prefill chunks are measured before, with nothing else up.

    This thread, which is to be the client, has the cores of the setting alone while the context lasts.

    Raises:
        NotEnough: they do not fit together.
        NotServing, NotCalibrated: a prefill chunk could not be measured.
        EmbeddingsLost: one did not do what it stands for. That is told in the end, however it ends.
        PreflightFailed: the model cannot be split, and one of them does.
    """
    require(arrangements, setting)
    with only_on(setting.all_cores), ExitStack() as stack:
        chunks = {arrangement: calibrate(arrangement, setting) for arrangement in arrangements}
        running = {each: stack.enter_context(_started(each, setting, chunks[each])) for each in arrangements}
        try:
            yield running
        finally:
            for one in running.values():
                _must_have_lost_nothing(one)


def _must_have_lost_nothing(one: Running) -> None:
    retries = 0
    with suppress(EndpointError):  # a proxy that has gone tells nothing
        retries = one.retries()
    if retries:
        raise EmbeddingsLost(
            f"{one.name} lost embeddings, so that its proxy had to ask {retries} times more: what was measured "
            "of it is not what it can do. Measure it again, from the beginning."
        )


def calibrate(arrangement: Arrangement, setting: Setting) -> Chunks:
    """Its engines' prefill chunks, measured now if it has any that are not known yet: a minute and more.

    Nothing else should run meanwhile.

    Raises:
        NotServing, NotCalibrated: it could not be measured.
        PreflightFailed: the model cannot be split, and the arrangement does.
    """
    if arrangement in CALIBRATED:
        args = _mono_args(arrangement, setting)
        return [chunk_of(setting, cpus, args) for cpus in _cores(arrangement, setting)]
    if arrangement not in CLUSTERS:
        return []
    config = cluster_config(arrangement, setting, secrets.token_urlsafe(16))
    decoders = config["decoders"]
    [cpus], args = decoders["cpus"], tuple(decoders["engine_args"])
    keep_steps(config, steps_of(setting, cpus, args))
    return [chunk_of(setting, cpus, args)]


@contextmanager
def _started(arrangement: Arrangement, setting: Setting, chunks: Chunks) -> Iterator[Running]:
    key = secrets.token_urlsafe(16)
    if arrangement in CLUSTERS:
        with serving(arrangement, cluster_config(arrangement, setting, key)) as program:
            yield Cluster(arrangement, program, key, chunks)
    elif arrangement is Arrangement.VLLM_EPD:
        with _vllm_epd(setting, key) as running:
            yield running
    else:
        with _mono(arrangement, setting, key, chunks) as running:
            yield running


def _cores(arrangement: Arrangement, setting: Setting) -> tuple[str, ...]:
    """Of each engine of a monolithic arrangement."""
    twice = arrangement in (Arrangement.MONO_X2, Arrangement.MONO_X2_CALIBRATED)
    return setting.cores if twice else (setting.all_cores,)


def _mono_args(arrangement: Arrangement, setting: Setting) -> tuple[str, ...]:
    return setting.shared(len(_cores(arrangement, setting)))


@contextmanager
def _mono(arrangement: Arrangement, setting: Setting, key: str, chunks: Chunks) -> Iterator[Engines]:
    args, cores = _mono_args(arrangement, setting), _cores(arrangement, setting)
    flags = [chunk_flags(chunk, args) for chunk in chunks] or [()] * len(cores)
    with ExitStack() as stack:
        engines = [
            _engine(stack, f"{arrangement}-{cpus}", setting, cpus, args + bounds, key)
            for cpus, bounds in zip(cores, flags, strict=True)
        ]
        urls = [engine.url for engine in engines]
        # The first core is the slow one where they differ.
        told = [*urls, f"--slowness={setting.pace}", "--slowness=1"]
        front = _front(stack, f"{arrangement}'s router", router.__name__, told) if len(engines) > 1 else None
        yield Engines(arrangement, engines, front, key, chunks)


@contextmanager
def _vllm_epd(setting: Setting, key: str) -> Iterator[Disaggregated]:
    name = Arrangement.VLLM_EPD
    with ExitStack() as stack:
        # On a disk as in vLLM's example; its connector never removes what it has written.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vllm-epd-"))
        roles = (("encoder", encoder_args), ("decoder", decoder_args))
        engines = [
            _engine(stack, f"{name}-{role}", setting, cpus, args(setting, folder), key)
            for (role, args), cpus in zip(roles, setting.cores, strict=True)
        ]
        with only_on(setting.cores[0]):  # as a split's gateway, so that neither interrupts its decoder
            front = _front(stack, f"{name}'s proxy", epd_proxy.__name__, [engine.url for engine in engines])
        yield Disaggregated(name, engines, front, key)


def _engine(stack: ExitStack, name: str, setting: Setting, cpus: str, args: tuple[str, ...], key: str) -> Engine:
    engine = start_stock(name, setting, cpus, args, key)
    stack.callback(engine.stop)
    return engine


def _front(stack: ExitStack, name: str, module: str, args: Sequence[str]) -> Program:
    program = Program(start([sys.executable, "-m", module, *args]), name)
    stack.callback(program.stop)
    return program
