"""`chiasm profile`: what a running cluster does for some seconds, seen from its endpoint.

Engines and gateways remember anyway, so that is fetched at the end; only the scheduler's queues have to be watched.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from chiasm.client import EndpointError, get_json
from chiasm.telemetry.perfetto.trace import Profile, Sample
from chiasm.telemetry.timelines.clock_offsets import Exchange, estimate
from chiasm.telemetry.timelines.collected import ClusterRecords

SAMPLE_EVERY_S = 0.2


def watch(endpoint: str, api_key: str | None, seconds: float, show: Callable[[float], None]) -> Profile:
    """What happens there in the next so many seconds, or until Ctrl-C. `show` hears how many have passed.

    Raises:
        EndpointError: the endpoint does not answer at the beginning, or at the end; what fails in between is missing.
    """
    asked = time.time()
    opening = _collect(endpoint, api_key, asked)  # only to learn early that it answers, and what its clock shows
    ahead = estimate([Exchange(asked, opening.now, time.time())]).seconds
    began = now = time.time()
    samples = []
    try:
        while now < began + seconds:
            show(now - began)
            samples += _sample(endpoint, api_key, ahead)
            time.sleep(max(0.0, min(now + SAMPLE_EVERY_S, began + seconds) - time.time()))
            now = time.time()
    except KeyboardInterrupt:
        now = time.time()
    return Profile(began + ahead, now + ahead, _collect(endpoint, api_key, began + ahead), tuple(samples))


def contents(profile: Profile) -> str:
    """What is in a profile, in a line."""
    records = [worker.records for worker in profile.records.workers if worker.records is not None]
    counts = {
        "workers": len(records),
        "requests": len(profile.records.timelines),
        "engine calls": sum(len(each.calls) for each in records),
        "steps": sum(len(each.steps) for each in records),
        "transfers": sum(len(each.transfers) for each in records),
        "pauses": sum(len(each.pauses) for each in records),
    }
    found = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return f"{profile.ended - profile.began:.1f} s of {found}"


def gaps(profile: Profile) -> Iterator[str]:
    """What should be in a profile and is not: sentences with the reason and, where there is one, the cure."""
    whole_since = {"the gateway": profile.records.whole_since}
    for worker in profile.records.workers:
        if worker.records is None or worker.clock is None:
            yield f"{worker.worker} did not tell what it did: {worker.failure}"
        else:
            whole_since[worker.worker] = worker.clock.ours(worker.records.whole_since)
    for name, since in whole_since.items():
        if since > profile.began:
            forgotten = f"{name} has forgotten some of what ended in the first {since - profile.began:.1f} s"
            yield f"{forgotten}, for it remembers only so much. Profile for fewer seconds."
    if not profile.samples:
        yield "the scheduler's queues: it did not answer"
    if not any(worker.records and worker.records.steps for worker in profile.records.workers):
        yield "steps: no engine did any. Send requests meanwhile; telemetry.timelines must not be 0"


def _sample(endpoint: str, api_key: str | None, ahead: float) -> list[Sample]:
    try:
        status: dict[str, Any] = get_json(endpoint, "/v1/chiasm/status", api_key)
    except EndpointError:
        return []
    return [Sample(time.time() + ahead, status)]


def _collect(endpoint: str, api_key: str | None, since: float) -> ClusterRecords:
    answer = get_json(endpoint, f"/v1/chiasm/trace?since={since!r}", api_key)
    try:
        return msgspec.convert(answer, ClusterRecords)
    except msgspec.ValidationError as error:
        raise EndpointError(
            f"{endpoint} speaks another version of Chiasm: {error}. Use the same on both sides."
        ) from error
