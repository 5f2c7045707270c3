"""The scheduler's page for Prometheus, read back as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from chiasm.counters import COUNTERS, FAILED
from chiasm.messages import RejectReason, Status, ThiefStatus, WorkerStatus
from chiasm.nouns import RequestId, Role, WorkerId
from chiasm.telemetry.scheduler_metrics import scheduler_page
from scheduler.counters import new_counters

WORKERS = (
    WorkerStatus(WorkerId("encoder-0"), Role.ENCODER, "n", "http://e", 1, 7, 4, 0, 900.0, 3),
    WorkerStatus(WorkerId("decoder-0"), Role.DECODER, "n", "http://d", 5, 0, 8, 4096, 80.5, 0),
    WorkerStatus(WorkerId("encoder-0-text"), Role.TEXT, "n", "http://t", 2, 0, 8, 1024, 40.0, 0),
)


THIEVES = (ThiefStatus(WorkerId("encoder-0-text"), True, 0.25, 1.5, 3),)


def samples(status: Status) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(scheduler_page(status).decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def of(worker: WorkerStatus, name: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"chiasm_worker_{name}", frozenset({("pool", worker.role.value), ("worker", worker.worker)})


def status(**counters: int) -> Status:
    return Status(RequestId("r"), True, WORKERS, 1, 2, 3, new_counters() | counters, THIEVES)


def test_every_worker_has_its_numbers_under_its_pool() -> None:
    found = samples(status())
    encoder, decoder, text = WORKERS
    assert [found[of(worker, "up")] for worker in WORKERS] == [1, 1, 1]
    assert [found[of(worker, "running")] for worker in WORKERS] == [1, 5, 2]
    assert [found[of(worker, "slots")] for worker in WORKERS] == [4, 8, 8]
    assert [found[of(worker, "tokens_per_second")] for worker in WORKERS] == [900.0, 80.5, 40.0]
    assert [found[of(worker, "kv_tokens")] for worker in (decoder, text)] == [4096, 1024]
    assert (found[of(encoder, "waiting")], found[of(encoder, "embeddings")]) == (7, 3)


def test_what_decides_about_a_thief_is_shown() -> None:
    found = samples(status())
    names = ("held", "encoder_busy_ratio", "patience_seconds", "requests_allowed")
    labels = frozenset({("worker", "encoder-0-text")})
    assert [found[f"chiasm_thief_{name}", labels] for name in names] == [1, 0.25, 1.5, 3]


def test_what_a_pool_cannot_have_is_left_out() -> None:
    found = samples(status())
    encoder, decoder, _ = WORKERS
    assert not {of(encoder, "kv_tokens"), of(decoder, "waiting"), of(decoder, "embeddings")} & found.keys()


def test_requests_are_told_apart_by_what_they_wait_for() -> None:
    found = samples(status())
    states = [found["chiasm_scheduler_requests", frozenset({("state", name)})] for name in ("encoding", "withheld")]
    assert states == [1, 2]
    assert found["chiasm_scheduler_requests", frozenset({("state", "decoding")})] == 3
    assert found["chiasm_scheduler_ready", frozenset()] == 1


def test_every_counter_is_there_and_rejections_are_one_by_reason() -> None:
    counts = {name: number for number, name in enumerate(COUNTERS, start=1)}
    found = samples(status(**counts))
    for reason in RejectReason:
        key = "chiasm_scheduler_failed_total", frozenset({("reason", reason.value)})
        assert found[key] == counts.pop(f"{FAILED}{reason.value}")
    for name, count in counts.items():
        assert found[f"chiasm_scheduler_{name}_total", frozenset()] == count


def test_a_scheduler_of_another_version_is_understood_as_far_as_it_goes() -> None:
    known = Status(RequestId("r"), False, (), 0, 0, 0, {"stolen": 4, "of tomorrow": 1})
    found = samples(known)
    assert found["chiasm_scheduler_stolen_total", frozenset()] == 4
    assert found["chiasm_scheduler_ready", frozenset()] == 0
    assert not any("tomorrow" in name or "decodes" in name for name, _ in found)
