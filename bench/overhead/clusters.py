"""The clusters that are asked, as `chiasm serve` starts them: one engine each, on a core of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.model import build_bench_model
from bench.overhead.ways import Ways, ways_through
from bench.topologies.chiasm_cluster import serving
from bench.topologies.cores import only_on
from bench.topologies.setting import COMMON_ARGS, SLOTS, first_two_cores

LARGE_ARGS = (*COMMON_ARGS, f"{SLOTS}=8")  # so that a burst of twice as many is over soon


def built_in() -> dict[str, Any]:
    """The built-in model. It answers so fast that front-ends count.

    Its engine is a whole worker, for a decoder takes no pictures from anybody but an encoder.
    """
    _, second = first_two_cores()
    none = {"count": 0}
    return {"encoders": none, "decoders": none, "wholes": {"count": 1, "cpus": [second]}}


def bench_model() -> dict[str, Any]:
    """The bench model, which keeps its core busy, as engines on cards do."""
    halves = {"count": 0, "engine_args": list(LARGE_ARGS)}  # a whole worker has a decoder's, and an encoder must agree
    return built_in() | {
        "model": str(build_bench_model()),
        "encoders": halves,
        "decoders": halves,
    }


@contextmanager
def running(name: str, config: Mapping[str, Any]) -> Iterator[Ways]:
    """Both ways to the engine of such a cluster, for as long as the context lasts.

    All of it has the two cores, and so has this thread, which is to be the client.

    Raises:
        NotServing: it did not come up.
    """
    with only_on(",".join(first_two_cores())), serving(name, {"gateway": {"port": 0}, **config}) as program:
        program.wait_ready()
        yield ways_through(program.url, None)
