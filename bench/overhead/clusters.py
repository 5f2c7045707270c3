"""The clusters that are asked, as `chiasm serve` starts them: one engine of each generates, on a core of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.model import build_bench_model
from bench.overhead.ways import Ways, ways_through
from bench.stealing_sides import ENGINE_ARGS, cores, serving

NONE: Mapping[str, Any] = {"count": 0}


def small_split() -> dict[str, Any]:
    """The built-in model, an encoder and a decoder. It answers so fast that front-ends count."""
    first, second = cores()
    return {"encoders": {"cpus": [str(first)]}, "decoders": {"cpus": [str(second)]}}


def small_whole() -> dict[str, Any]:
    """The built-in model on one engine, which takes pictures from whoever asks."""
    _, second = cores()
    return {"encoders": NONE, "decoders": NONE, "wholes": {"count": 1, "cpus": [str(second)]}}


def large_split() -> dict[str, Any]:
    """The bench model, whose decoder keeps its core busy, as engines on cards do."""
    pools = {name: {**pool, "engine_args": list(ENGINE_ARGS)} for name, pool in small_split().items()}
    return {"model": str(build_bench_model()), "served_model_name": "model", **pools}


@contextmanager
def running(config: Mapping[str, Any]) -> Iterator[Ways]:
    """Both ways to the engine of such a cluster, for as long as the context lasts.

    Raises:
        NotServing: it did not come up.
    """
    with serving({"gateway": {"port": 0}, **config}) as cluster:
        cluster.wait_ready()
        yield ways_through(cluster.url, None)
