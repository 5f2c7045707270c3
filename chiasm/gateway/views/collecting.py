"""What engines remember, asked of many at once, and how far their clocks are from ours, which the answers tell."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlencode

import msgspec

from chiasm.gateway.upstream import EngineFailed, Upstream, read_limited
from chiasm.messages import WorkerStatus
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.records import EngineRecords
from chiasm.telemetry.timelines.clock_offsets import Exchange, estimate
from chiasm.telemetry.timelines.collected import ClusterRecords, WorkerRecords, assemble_all

RECORDS_PATH = "/v1/chiasm/records"
TRACE_TIMEOUT_S = 15.0
MAX_COLLECTED_BYTES = 64 << 20  # of all answers together; the full rings of one engine are some 3 MB

_decoder = msgspec.json.Decoder(EngineRecords)


async def collect(
    upstream: Upstream,
    workers: Collection[WorkerStatus],
    question: Mapping[str, str | float | Sequence[str]],
    timeout_s: float,
) -> tuple[WorkerRecords, ...]:
    """What each of `workers` says to `question`: `{"since": unix seconds}`, or `{"call": request id, "key": keys of
    embeddings}`.

    Who gives no answer, none within `timeout_s` seconds, or one that is too long, has its failure named instead.
    """
    path = f"{RECORDS_PATH}?{urlencode(question, doseq=True)}"
    limit = MAX_COLLECTED_BYTES // max(1, len(workers))
    return tuple(await asyncio.gather(*(_ask(upstream, worker, path, limit, timeout_s) for worker in workers)))


async def cluster_records(
    upstream: Upstream, workers: Collection[WorkerStatus], requests: Sequence[Marks], whole_since: float, since: float
) -> ClusterRecords:
    """All that ended at `since` (unix seconds) or later: of these workers, and these requests.

    `whole_since`: of requests that ended before then, some are forgotten.
    """
    heard = await collect(upstream, workers, {"since": since}, TRACE_TIMEOUT_S)
    now = time.time()
    lately = [marks.copy() for marks in requests if marks.ended_at is None or marks.ended_at >= since]
    # In a thread: of a thousand requests it takes a good part of a second, and of copies: meanwhile they go on.
    timelines = await asyncio.to_thread(assemble_all, lately, heard, now)
    return ClusterRecords(now, heard, tuple(timelines), whole_since)


async def _ask(upstream: Upstream, worker: WorkerStatus, path: str, limit: int, timeout_s: float) -> WorkerRecords:
    about = (worker.worker, worker.role, worker.node)
    asked = time.time()
    try:
        async with upstream.ask(worker.url, path, timeout_s) as answer:
            answered = time.time()  # the rest of a long answer takes its time after the engine has looked at its clock
            if answer.status != 200:
                return WorkerRecords(*about, failure=f"HTTP {answer.status} from {worker.url}{RECORDS_PATH}")
            try:
                content = await read_limited(answer, limit)
            except EngineFailed as error:
                failure = f"{error}, which is its share of what all workers may say. Ask about fewer seconds."
                return WorkerRecords(*about, failure=failure)
        records = _decoder.decode(content)
    except TimeoutError:
        return WorkerRecords(*about, failure=f"no answer from {worker.url} within {timeout_s:g} s")
    except (EngineFailed, msgspec.DecodeError) as error:
        return WorkerRecords(*about, failure=str(error))
    return WorkerRecords(*about, records, estimate([Exchange(asked, records.now, answered)]))
