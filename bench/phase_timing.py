"""How long a piece of work takes, on a CPU or a GPU, kernel by kernel or as a CUDA graph. Must import only torch."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Call = Callable[[], object]

LEAST_ROUNDS = 5
MOST_ROUNDS = 200
ROUND_S = {"cpu": 0.0, "cuda": 0.03}  # a round is as many calls as take that long: one wait is then nothing


@dataclass(frozen=True)
class Timing:
    """Of one call, in seconds."""

    median: float
    quickest: float
    slowest: float
    rounds: int


def time_rounds(call: Call, device: str, seconds: float) -> Timing:
    """Call it again and again for so long, and `LEAST_ROUNDS` rounds at least."""

    def once(calls: int) -> float:
        wait_for(device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait_for(device)
        return (time.perf_counter() - start) / calls

    once(1)
    calls = max(1, round(ROUND_S[device] / once(1)))
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < LEAST_ROUNDS or (time.monotonic() < end and len(times) < MOST_ROUNDS):
        times.append(once(calls))
    return Timing(statistics.median(times), min(times), max(times), len(times))


def wait_for(device: str) -> None:
    """Until all is done that it was told to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def captured(call: Call) -> Call:
    """The call as a CUDA graph: launched as one, so that the host is never what it waits for.

    Raises:
        RuntimeError: it does something that a graph cannot.
    """
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):  # libraries set themselves up on their first calls, which a graph could not
            call()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    replay: Call = graph.replay
    return replay
