"""What the cluster's engines run on: gathered from all of them, and measured on one. The routes are in `routes`."""

import asyncio
from collections.abc import Sequence

import msgspec

from chiasm.gateway.errors import ApiError
from chiasm.gateway.upstream import MAX_REPORT_BYTES, EngineFailed, Upstream, read_limited
from chiasm.image_tokens import ImageSizes
from chiasm.messages import WorkerStatus
from chiasm.nouns import WorkerId
from chiasm.telemetry.live.machine import Machine, Machines

MACHINE_TIMEOUT_S = 5.0
PEAKS_TIMEOUT_S = 90.0  # longer than an engine lets it take


async def gather_machines(workers: Sequence[WorkerStatus], images: ImageSizes, upstream: Upstream) -> Machines:
    """Ask all at once; an engine that gives no answer is named among the silent."""
    answers = await asyncio.gather(*(_machine(worker, upstream) for worker in workers))
    told = {worker.worker: answer for worker, answer in zip(workers, answers, strict=True)}
    return Machines(
        images,
        machines={name: answer for name, answer in told.items() if isinstance(answer, Machine)},
        silent={name: answer for name, answer in told.items() if isinstance(answer, str)},
    )


async def _machine(worker: WorkerStatus, upstream: Upstream) -> Machine | str:
    try:
        async with upstream.ask(worker.url, "/v1/chiasm/machine", MACHINE_TIMEOUT_S) as answer:
            if answer.status != 200:
                return f"HTTP {answer.status}"
            return msgspec.json.decode(await read_limited(answer, MAX_REPORT_BYTES), type=Machine)
    except (TimeoutError, EngineFailed, msgspec.DecodeError) as error:
        return str(error) or f"no answer within {MACHINE_TIMEOUT_S:g} s"


async def measured_peaks(workers: Sequence[WorkerStatus], name: WorkerId, upstream: Upstream) -> bytes:
    """Have the engine of that worker measure its machine, unless that was done before; its answer as it is.

    Raises:
        ApiError: there is no such worker (404), it cannot measure them now (409), or does not answer (502).
    """
    url = next((worker.url for worker in workers if worker.worker == name), None)
    if url is None:
        raise ApiError(404, f"There is no worker {name} now. GET /v1/chiasm/status shows them.", code="unknown_worker")
    try:
        async with upstream.ask(url, "/v1/chiasm/peaks", PEAKS_TIMEOUT_S, "POST") as answer:
            content = await read_limited(answer, MAX_REPORT_BYTES)
        if answer.status == 409:
            reason = msgspec.json.decode(content, type=dict[str, str])["reason"]
            raise ApiError(409, f"The peaks of {name} are not known: {reason}", kind="server_error", code="no_peaks")
        if answer.status != 200:
            raise EngineFailed(f"HTTP {answer.status}", retryable=False)
    except (TimeoutError, EngineFailed, msgspec.DecodeError, LookupError) as error:
        why = str(error) or f"no answer within {PEAKS_TIMEOUT_S:g} s"
        raise ApiError(502, f"{name} does not tell its peaks: {why}", kind="server_error", code="no_peaks") from error
    return content
