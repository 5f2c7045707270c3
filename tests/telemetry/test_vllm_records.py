"""What is recorded of what vLLM's own bookkeeping says. vLLM is imported here, but no engine starts."""

import logging
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from chiasm.api_paths import CHAT_PATH, COMPLETIONS_PATH
from chiasm.telemetry.engine.http_calls import WatchCalls
from chiasm.telemetry.engine.memory import RECORDS_VARIABLE, Answering, EngineMemory, engine_memory
from chiasm.telemetry.records import EngineCall, Step, Transfer
from chiasm.wire.settings import RUNTIME_VARIABLE

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

PROMPT = 7
QUEUED, SCHEDULED = "QUEUED", "SCHEDULED"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineMemory]:
    monkeypatch.setenv(RUNTIME_VARIABLE, "/nowhere")
    engine_memory.cache_clear()
    yield engine_memory()
    engine_memory.cache_clear()


class FrontEnd:
    """vLLM's own bookkeeping in an API server, with the loggers that our plugin is one of; the engine is the test."""

    def __init__(self, encodes: bool = False) -> None:
        from vllm.v1.engine.output_processor import OutputProcessor

        from chiasm.telemetry.engine.logger import RecordsLogger

        self.output_processor = OutputProcessor(None, log_stats=True)
        self.logger = RecordsLogger(vllm_config=SimpleNamespace(is_mm_encoder_only=encodes), engine_indexes=[0])

    def add(self, vllm_id: str, arrived: float) -> str:
        """A request, as its route hands it to the engine; returns vLLM's inner name of it."""
        from vllm import SamplingParams
        from vllm.v1.engine import EngineCoreRequest
        from vllm.v1.engine.input_processor import InputProcessor

        request = EngineCoreRequest(
            request_id=vllm_id,
            prompt_token_ids=[1] * PROMPT,
            mm_features=None,
            sampling_params=SamplingParams(max_tokens=5, detokenize=False),
            pooling_params=None,
            arrival_time=arrived,
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        InputProcessor.assign_request_id(request)
        self.output_processor.add_request(request, None)
        return str(request.request_id)

    def hear(self, inner: str, tokens: int, at: float, finish: str | None = None, **events: float) -> float:
        """The engine says something of a request, at a monotonic time; returns when (unix seconds) that was heard."""
        from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, EngineCoreOutput, FinishReason
        from vllm.v1.metrics.stats import IterationStats, PrefillStats

        heard = IterationStats()
        output = EngineCoreOutput(
            request_id=inner,
            new_token_ids=[5] * tokens,
            finish_reason=None if finish is None else FinishReason[finish],
            events=[EngineCoreEvent(EngineCoreEventType[name], moment) for name, moment in events.items()],
            prefill_stats=PrefillStats(num_prompt_tokens=PROMPT, num_computed_tokens=3, num_cached_tokens=4),
        )
        self.output_processor.process_outputs([output], at, heard)
        self.logger.record(None, heard)
        timestamp: float = heard.iteration_timestamp
        return timestamp


def only(memory: EngineMemory, call: str) -> EngineCall:
    [found] = memory.of_call(call, (), time.time()).calls
    return found


def times(call: EngineCall, relative_to: float) -> list[float]:
    moments = (call.arrived, call.queued, call.scheduled, call.first_token, call.last_token)
    return [round(moment - relative_to, 3) for moment in moments]


def phase_counts() -> dict[str, float]:
    phases = ("preprocess", "encode", "transfer", "prefill", "decode")
    found = {name: REGISTRY.get_sample_value("chiasm_phase_seconds_count", {"phase": name}) for name in phases}
    return {name: value or 0.0 for name, value in found.items()}


@pytest.mark.parametrize("vllm_id", ["chatcmpl-{}", "cmpl-{}-0"])
@pytest.mark.parametrize("call", ["f3", "f3.12", "cmpl-7"])
def test_a_call_is_known_by_the_id_that_it_came_with(memory: EngineMemory, vllm_id: str, call: str) -> None:
    front = FrontEnd()
    inner = front.add(vllm_id.format(call), time.time())
    front.hear(inner, 1, time.monotonic(), "STOP", QUEUED=1.0, SCHEDULED=2.0)
    assert only(memory, call).call == call


def test_a_finished_request_has_all_its_stages(memory: EngineMemory) -> None:
    front, before, clock = FrontEnd(), phase_counts(), time.monotonic()
    inner = front.add("chatcmpl-a", time.time() - 10)
    front.hear(inner, 1, clock - 5, QUEUED=clock - 9, SCHEDULED=clock - 8)
    assert memory.of_call("a", (), time.time()).calls == ()
    front.hear(inner, 2, clock - 3)
    heard = front.hear(inner, 1, clock, "LENGTH")
    call = only(memory, "a")
    assert times(call, heard)[1:] == [-9, -8, -5, 0]
    assert call.arrived == pytest.approx(heard - 10, abs=0.1)
    assert (call.prompt_tokens, call.cached_tokens, call.output_tokens, call.finish) == (PROMPT, 4, 4, "length")
    assert {name: count - before[name] for name, count in phase_counts().items() if count != before[name]} == {
        "preprocess": 1,
        "prefill": 1,
        "decode": 1,
    }


def test_an_encode_has_its_end_where_others_have_their_first_token(memory: EngineMemory) -> None:
    front, before, clock = FrontEnd(encodes=True), phase_counts(), time.monotonic()
    inner = front.add("chatcmpl-a.1", time.time() - 10)
    heard = front.hear(inner, 0, clock, "STOP", QUEUED=clock - 9, SCHEDULED=clock - 4)
    call = only(memory, "a.1")
    assert times(call, heard)[1:] == [-9, -4, 0, 0]
    assert (call.output_tokens, call.finish) == (0, "stop")
    assert {name: count - before[name] for name, count in phase_counts().items() if count != before[name]} == {
        "preprocess": 1,
        "encode": 1,
    }


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ({}, [-10, -10, -10, -10, -10]),
        ({QUEUED: -9.0}, [-10, -9, -9, -9, -9]),  # as when its embedding could not be had
        ({QUEUED: -9.0, SCHEDULED: -4.0}, [-10, -9, -4, -4, -4]),
    ],
)
def test_what_a_failed_request_never_reached_is_at_the_stage_before(
    memory: EngineMemory, events: dict[str, float], expected: list[float]
) -> None:
    front, before, clock = FrontEnd(), phase_counts(), time.monotonic()
    inner = front.add("chatcmpl-a", time.time() - 10)
    heard = front.hear(inner, 0, clock, "ERROR", **{name: clock + moment for name, moment in events.items()})
    call = only(memory, "a")
    assert times(call, heard) == pytest.approx(expected, abs=0.1)
    assert call.finish == "error"
    assert phase_counts() == before


def test_what_is_known_of_the_http_request_counts_more(memory: EngineMemory) -> None:
    """vLLM's own arrival is after the body was parsed, and the engine core queues nothing while a step runs."""
    front, clock, now = FrontEnd(), time.monotonic(), time.time()
    memory.answering["a"] = Answering(arrived=now - 12, prepared=now - 9.5)
    inner = front.add("chatcmpl-a", now - 10)
    heard = front.hear(inner, 1, clock, "STOP", QUEUED=clock - 9, SCHEDULED=clock - 8)
    call = only(memory, "a")
    assert (call.arrived, call.queued) == (now - 12, now - 9.5)
    assert times(call, heard)[2:] == [-8, 0, 0]


def test_a_request_that_vllm_did_not_say_was_prepared_was_when_it_was_queued(memory: EngineMemory) -> None:
    front, clock, now = FrontEnd(), time.monotonic(), time.time()
    memory.answering["a"] = Answering(arrived=now - 12)
    inner = front.add("chatcmpl-a", now - 10)
    heard = front.hear(inner, 1, clock, "STOP", QUEUED=clock - 9, SCHEDULED=clock - 8)
    assert times(only(memory, "a"), heard)[1:] == [-9, -8, 0, 0]


class Prepared(Exception):
    """The route got as far as to the engine."""


@pytest.mark.parametrize("completions", [False, True])
async def test_vllms_routes_say_when_the_input_is_made(memory: EngineMemory, completions: bool) -> None:
    from starlette.requests import Request
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion

    rendered: list[float] = []

    async def render(_request: Any) -> Any:
        assert memory.answering["a"].prepared is None
        rendered.append(time.time())
        return [] if completions else ([], [])

    def reached(*_args: Any, **_options: Any) -> None:
        raise Prepared

    serving = SimpleNamespace(
        renderer=SimpleNamespace(tokenizer="any"),
        parser_cls=None,
        render_chat_request=render,
        render_completion_request=render,
        _effective_chat_template_kwargs=lambda _request: {},
        _base_request_id=lambda _raw, _id: "a",
        _maybe_get_adapters=reached,
    )
    request = SimpleNamespace(request_id="another", stream=False, use_beam_search=False)

    async def route(scope: Any, _receive: Any, _send: Any) -> None:
        with pytest.raises(Prepared):
            await vllms(serving, request, Request(scope))
        prepared = memory.answering["a"].prepared
        assert prepared is not None
        assert rendered[0] <= prepared

    vllms = OpenAIServingCompletion._create_completion if completions else OpenAIServingChat._create_chat_completion
    path = COMPLETIONS_PATH if completions else CHAT_PATH
    await WatchCalls(route)({"type": "http", "path": path, "headers": [(b"x-request-id", b"a")]}, None, None)


async def leave(front: FrontEnd, call: str) -> None:
    """The client of a call closes its connection while it waits."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        raise AssertionError("nobody is there to be answered")

    async def waits(_scope: Any, receive: Any, _send: Any) -> None:
        memory = engine_memory()
        memory.answering[call].arrived = time.time() - 12
        memory.answering[call].prepared = time.time() - 9.5
        assert await receive() == {"type": "http.disconnect"}
        front.output_processor.abort_requests(list(front.output_processor.request_states), internal=True)

    app = SimpleNamespace(state=SimpleNamespace(chiasm_engine=front))
    scope = {"type": "http", "path": CHAT_PATH, "headers": [(b"x-request-id", call.encode())], "app": app}
    await WatchCalls(waits)(scope, receive, send)


async def test_a_request_whose_client_left_in_mid_stream_has_the_stages_that_it_reached(memory: EngineMemory) -> None:
    front, before, clock = FrontEnd(), phase_counts(), time.monotonic()
    inner = front.add("chatcmpl-a", time.time() - 10)
    front.add("chatcmpl-another", time.time() - 10)
    front.hear(inner, 1, clock - 5, QUEUED=clock - 9, SCHEDULED=clock - 8)
    front.hear(inner, 2, clock - 3)
    await leave(front, "a")
    call = only(memory, "a")
    assert times(call, time.time() - (time.monotonic() - clock)) == pytest.approx([-12, -9.5, -8, -5, -3], abs=0.1)
    assert (call.prompt_tokens, call.cached_tokens, call.output_tokens, call.finish) == (PROMPT, 4, 3, "abort")
    assert memory.of_call("another", (), time.time()).calls == ()
    assert phase_counts() == before


async def test_of_a_request_whose_client_left_before_the_first_token_nothing_is_known_of_the_engine(
    memory: EngineMemory,
) -> None:
    front = FrontEnd()
    front.add("cmpl-a-0", time.time() - 10)
    await leave(front, "a")
    call = only(memory, "a")
    assert times(call, time.time()) == pytest.approx([-12, -9.5, -9.5, -9.5, -9.5], abs=0.1)
    assert (call.output_tokens, call.finish) == (0, "abort")


async def test_a_connection_that_closes_after_the_answer_changes_nothing(memory: EngineMemory) -> None:
    front, clock = FrontEnd(), time.monotonic()
    inner = front.add("chatcmpl-a", time.time())
    front.hear(inner, 1, clock, "STOP", QUEUED=clock - 2, SCHEDULED=clock - 1)
    await leave(front, "a")
    assert only(memory, "a").finish == "stop"


def a_step(**changes: Any) -> Any:
    """vLLM's statistics of a step."""
    from vllm.v1.metrics.stats import SchedulerIterationDetails, SchedulerStats

    details = SchedulerIterationDetails(
        iteration_index=3,
        num_ctx_requests=1,
        num_ctx_tokens=64,
        num_generation_requests=5,
        num_generation_tokens=6,
        elapsed_ms=12.5,
        num_encoder_inputs=2,
        num_encoder_output_tokens=512,
    )
    stats = SchedulerStats(
        num_running_reqs=6,
        num_waiting_reqs=2,
        num_skipped_waiting_reqs=1,
        kv_cache_usage=0.25,
        iteration_details=details,
    )
    for name, value in changes.items():
        setattr(stats if hasattr(stats, name) else details, name, value)
    return stats


def test_a_step_is_recorded_with_what_was_in_it(memory: EngineMemory) -> None:
    FrontEnd().logger.record(a_step(), None)
    [step] = memory.since(0.0, time.time()).steps
    assert step.ended == pytest.approx(time.time(), abs=5)
    assert step == Step(step.ended, 0.0125, 1, 64, 5, 6, 2, 512, running=6, waiting=3, kv_part=0.25)


@pytest.mark.parametrize("changes", [{"iteration_details": None}, {"is_dummy": True}])
def test_what_computed_nothing_is_no_step(memory: EngineMemory, changes: dict[str, Any]) -> None:
    FrontEnd().logger.record(a_step(**changes), None)
    assert memory.since(0.0, time.time()).steps == ()


def test_the_connectors_transfers_are_recorded_and_those_that_came_are_measured(memory: EngineMemory) -> None:
    before = phase_counts()
    now = time.time()
    came, failed = [["key", now - 2, now, 4096, ""], ["lost", now - 1, now, 0, "missing"]]
    FrontEnd().logger.record(a_step(ec_connector_stats={"transfers": [came, failed]}), None)
    assert memory.since(0.0, now).transfers == (
        Transfer("key", now - 2, now, 4096),
        Transfer("lost", now - 1, now, 0, "missing"),
    )
    assert phase_counts()["transfer"] - before["transfer"] == 1


def test_an_encoders_counts_are_no_transfers(memory: EngineMemory) -> None:
    FrontEnd(encodes=True).logger.record(a_step(ec_connector_stats={"items": 2, "bytes": 100}), None)
    assert memory.since(0.0, time.time()).transfers == ()


def test_statistics_that_cannot_be_read_cost_no_engine_its_life(
    memory: EngineMemory, caplog: pytest.LogCaptureFixture
) -> None:
    front, clock = FrontEnd(), time.monotonic()
    for _ in range(2):
        front.logger.record(SimpleNamespace(renamed="by another version"), None)
    inner = front.add("chatcmpl-a", time.time())
    front.hear(inner, 1, clock, "STOP", QUEUED=clock - 2, SCHEDULED=clock - 1)
    assert only(memory, "a").finish == "stop"
    [told] = [record for record in caplog.records if record.name.startswith("chiasm")]
    assert told.exc_info is not None
    assert "iteration_details" in str(told.exc_info[1])


async def test_a_request_that_cannot_be_read_is_aborted_all_the_same(memory: EngineMemory) -> None:
    front = FrontEnd()
    front.add("chatcmpl-a", time.time())
    for state in front.output_processor.request_states.values():
        del state.stats
    await leave(front, "a")
    assert not front.output_processor.request_states
    assert memory.of_call("a", (), time.time()).calls == ()


def test_vllm_logs_no_line_of_each_step_and_all_others(memory: EngineMemory, caplog: pytest.LogCaptureFixture) -> None:
    from vllm.v1.metrics import loggers

    FrontEnd()
    vllms = SimpleNamespace(_log_prefix_for_engine=lambda _: "Engine 000: ", kv_cache_device="CPU")
    vllms_logger = logging.getLogger(loggers.__name__)
    vllms_logger.addHandler(caplog.handler)  # vLLM's own do not propagate
    try:
        with caplog.at_level(logging.INFO, logger=vllms_logger.name):
            loggers.LoggingStatLogger._log_iteration_details(vllms, a_step(), 0)
            loggers.logger.info("%s said", "something else")
    finally:
        vllms_logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {"something else said"}


def test_an_engine_that_is_to_remember_nothing_does_not(memory: EngineMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RECORDS_VARIABLE, "0")
    front, clock = FrontEnd(), time.monotonic()
    inner = front.add("chatcmpl-a", time.time())
    front.hear(inner, 1, clock, "STOP", QUEUED=clock - 2, SCHEDULED=clock - 1)
    front.logger.record(a_step(), None)
    found = memory.since(0.0, time.time())
    assert (found.calls, found.steps) == ((), ())


def test_vllm_loads_the_logger_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.v1.metrics.loggers import load_stat_logger_plugin_factories

    from chiasm.telemetry.engine.logger import RecordsLogger

    monkeypatch.setenv("VLLM_PLUGINS", "chiasm_records")
    assert load_stat_logger_plugin_factories() == [RecordsLogger]
