"""The scheduler's page for Prometheus: a Status of its core in the words of metrics. Holds nothing."""

from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from chiasm.counters import COUNTERS, FAILED
from chiasm.messages import Status, ThiefStatus, WorkerStatus
from chiasm.nouns import Role


def scheduler_page(status: Status) -> bytes:
    """The Status in Prometheus' text format."""
    return generate_latest(_Families(status))


class _Families:
    """A collector, as prometheus_client has them."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        about = "1 if a request with images and one without could both be placed now"
        yield GaugeMetricFamily("chiasm_scheduler_ready", about, status.ready)
        requests = GaugeMetricFamily("chiasm_scheduler_requests", "Requests by what they wait for", labels=["state"])
        requests.add_metric(["encoding"], status.encoding)
        requests.add_metric(["withheld"], status.withheld)
        requests.add_metric(["decoding"], status.decoding)
        yield requests
        yield from _of_workers(status.workers)
        yield from _of_thieves(status.thieves)
        yield from _counted(status.counters)


def _of_workers(workers: tuple[WorkerStatus, ...]) -> Iterator[Metric]:
    encoders = [one for one in workers if one.role is Role.ENCODER]
    generating = [one for one in workers if one.role is not Role.ENCODER]
    yield _gauge("up", "1 for every worker that is registered", [(one, 1) for one in workers])
    about = "Encodes or requests that its engine has been handed"
    yield _gauge("running", about, [(one, one.running) for one in workers])
    about = "Encodes that are assigned to it and withheld"
    yield _gauge("waiting", about, [(one, one.waiting) for one in encoders])
    yield _gauge("slots", "Encodes or requests that its engine runs at once", [(one, one.slots) for one in workers])
    about = (
        "Vision tokens (encoders) or output tokens (others) in a second: assumed until its first answers, then measured"
    )
    yield _gauge("tokens_per_second", about, [(one, one.tokens_per_s) for one in workers])
    yield _gauge("kv_tokens", "Tokens that its KV cache holds", [(one, one.kv_tokens) for one in generating])
    yield _gauge("embeddings", "Embeddings that it is known to hold", [(one, one.held) for one in encoders])


def _gauge(name: str, about: str, values: list[tuple[WorkerStatus, float]]) -> Metric:
    gauge = GaugeMetricFamily(f"chiasm_worker_{name}", about, labels=["pool", "worker"])
    for worker, value in values:
        gauge.add_metric([worker.role, worker.worker], value)
    return gauge


def _of_thieves(thieves: tuple[ThiefStatus, ...]) -> Iterator[Metric]:
    about = "1 while the text engine stands still, as an image is encoded on its card"
    held = GaugeMetricFamily("chiasm_thief_held", about, labels=["worker"])
    about = "Share of the time of late in which the encoder on its card had work"
    busy = GaugeMetricFamily("chiasm_thief_encoder_busy_ratio", about, labels=["worker"])
    about = "How long that encoder must have been idle before the text engine steals"
    patience = GaugeMetricFamily("chiasm_thief_patience_seconds", about, labels=["worker"])
    about = "Requests that it may hold: as many as a decoder, by how much slower it is"
    at_most = GaugeMetricFamily("chiasm_thief_requests_allowed", about, labels=["worker"])
    for thief in thieves:
        held.add_metric([thief.worker], thief.held)
        busy.add_metric([thief.worker], thief.encoder_busy_share)
        patience.add_metric([thief.worker], thief.patience_s)
        at_most.add_metric([thief.worker], thief.at_most)
    yield from (held, busy, patience, at_most)


def _counted(counters: dict[str, int]) -> Iterator[Metric]:
    failed = CounterMetricFamily("chiasm_scheduler_failed", "Requests that ended with an error", labels=["reason"])
    for name, about in COUNTERS.items():
        if name not in counters:
            continue  # the scheduler is of another version
        if name.startswith(FAILED):
            failed.add_metric([name.removeprefix(FAILED)], counters[name])
        else:
            yield CounterMetricFamily(f"chiasm_scheduler_{name}", about, counters[name])
    yield failed
