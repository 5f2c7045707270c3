"""What steps had to do, as far as their counts and the calls that they were part of can tell."""

from dataclasses import replace
from typing import Any

import pytest
from live_engines import CONFIG, call, encoder_machine, machine, prompt, step, streams

from chiasm.telemetry.live.machine import Machine
from chiasm.telemetry.live.step_times import TimedStep, timed_steps
from chiasm.telemetry.live.step_work import Model, StepWork, with_calls
from chiasm.telemetry.records import EngineCall, EngineRecords, Phase, Step
from chiasm.telemetry.signature.shapes import language_of, tower_of
from chiasm.telemetry.signature.work import NOTHING, decode_work, encode_work, likely_grid, prefill_work

TOWER, LANGUAGE = tower_of(CONFIG), language_of(CONFIG)


def done(machine: Machine, one: Step, began: float, *calls: EngineCall) -> StepWork:
    found = Model(machine).work_of(TimedStep(one, began), calls)
    assert found is not None
    return found


def test_an_encoder_computes_images_and_nothing_of_their_prompts() -> None:
    found = done(encoder_machine(), prompt(5.0, 1300, images=1, image_tokens=1296), 4.0)
    assert found.phases == (Phase.ENCODE,)
    assert found.work == encode_work(TOWER, [(1, 72, 72)], 2)


def test_images_of_one_step_share_the_weights() -> None:
    found = done(encoder_machine(), step(5.0, images=3, image_tokens=3 * 256), 4.0)
    assert found.work == encode_work(TOWER, [(1, 32, 32)] * 3, 2)


@pytest.mark.parametrize(("tokens", "grid"), [(256, (1, 32, 32)), (972, (1, 54, 72)), (7, (1, 2, 14)), (1, (1, 2, 2))])
def test_a_picture_is_taken_to_be_as_square_as_its_tokens_allow(tokens: int, grid: tuple[int, int, int]) -> None:
    assert likely_grid(TOWER, tokens) == grid


def test_the_true_shape_of_a_picture_makes_little_difference() -> None:
    narrow, square = (encode_work(TOWER, [grid], 2) for grid in ((1, 24, 216), likely_grid(TOWER, 12 * 108)))
    assert square.flops == pytest.approx(narrow.flops, rel=0.005)
    assert square.nbytes == narrow.nbytes


def test_a_decoder_encodes_nothing_of_what_it_fetches() -> None:
    found = done(machine(), prompt(5.0, 100, images=1, image_tokens=90), 4.0, call(4.0, 5.0, 6.0))
    assert found.phases == (Phase.PREFILL,)


def test_a_whole_prompt_is_what_the_signature_says() -> None:
    found = done(machine(), prompt(5.0, 100), 4.0, call(4.0, 5.0, 6.0))
    assert found.work == prefill_work(LANGUAGE, [100], 2)
    assert found == done(machine(), prompt(5.0, 100), 4.0)  # nor does it take its call to know that


def test_what_is_cached_is_read_and_met_and_not_computed() -> None:
    found = done(machine(), prompt(5.0, 40), 4.0, call(4.0, 5.0, 6.0, cached=60))
    whole, cached = prefill_work(LANGUAGE, [100], 2), prefill_work(LANGUAGE, [60], 2)
    assert found.work.attention_flops == whole.attention_flops - cached.attention_flops
    assert found.work.kv_bytes == whole.kv_bytes  # 60 read, 40 written


def test_the_chunks_of_a_prompt_have_its_attention_between_them() -> None:
    one = call(4.0, 6.0, 7.0, prompt=200)
    chunks = [done(machine(), prompt(at, 100), at - 1, one).work for at in (5.0, 6.0)]
    whole = prefill_work(LANGUAGE, [200], 2)
    assert sum(chunk.attention_flops for chunk in chunks) == whole.attention_flops
    assert [chunk.kv_bytes for chunk in chunks] == [whole.kv_bytes // 2, whole.kv_bytes]  # the second reads the first


def test_streams_meet_their_prompts_and_what_they_have_said() -> None:
    one = call(4.0, 5.0, 15.0, prompt=100, output=11)  # a token each second
    for said in range(1, 11):
        found = done(machine(), streams(5.0 + said, 1), 4.0 + said, one)
        assert found.work == decode_work(LANGUAGE, [100 + said], 2)
        assert (found.phases, found.context, found.known) == ((Phase.DECODE,), 100 + said, 1)


def test_streams_that_are_not_known_are_like_those_that_are() -> None:
    calls = (call(4.0, 5.0, 15.0, prompt=100), call(4.0, 5.0, 15.0, prompt=300))
    found = done(machine(), streams(6.0, 4), 5.0, *calls)
    assert found.work == decode_work(LANGUAGE, [201] * 4, 2)
    assert found.known == 2


def test_where_no_stream_is_known_they_share_the_cache_that_is_taken() -> None:
    found = done(machine(), streams(6.0, 2, running=2, kv_part=0.25), 5.0, call(1.0, 2.0, 3.0))
    assert found.work == decode_work(LANGUAGE, [200] * 2, 2)  # of 100 blocks of 16 tokens
    assert found.known == 0


def test_what_comes_in_one_step_reads_the_weights_once() -> None:
    calls = (call(5.0, 6.0, 7.0, prompt=50), call(2.0, 5.0, 15.0, prompt=100))
    found = done(machine(), prompt(6.0, 50, streams=1, stream_tokens=1), 5.0, *calls)
    apart = prefill_work(LANGUAGE, [50], 2) + decode_work(LANGUAGE, [101], 2)
    assert found.phases == (Phase.PREFILL, Phase.DECODE)
    assert found.work == replace(apart, weight_bytes=apart.weight_bytes // 2)


def test_a_whole_worker_encodes_and_prefills_in_one_step() -> None:
    whole = machine(tower=True)
    found = done(whole, prompt(5.0, 300, images=1, image_tokens=256), 4.0, call(4.0, 5.0, 6.0, prompt=300))
    assert found.phases == (Phase.ENCODE, Phase.PREFILL)
    assert found.work == encode_work(TOWER, [(1, 32, 32)], 2) + prefill_work(LANGUAGE, [300], 2)


def test_tokens_that_were_guessed_and_checked_at_once_read_the_cache_once() -> None:
    one = call(4.0, 5.0, 15.0, prompt=100)
    found = done(machine(), step(6.0, streams=1, stream_tokens=3), 5.0, one)
    assert found.work.kv_bytes == decode_work(LANGUAGE, [101], 2).kv_bytes
    assert found.work.attention_flops == 3 * decode_work(LANGUAGE, [101], 2).attention_flops


def test_the_cache_may_have_a_format_of_its_own() -> None:
    one = call(4.0, 5.0, 15.0)
    plain, short = (done(machine(kv_value_bytes=size), streams(6.0, 1), 5.0, one).work for size in (2, 1))
    assert short == replace(plain, kv_bytes=plain.kv_bytes // 2)


def test_all_steps_of_some_calls_have_the_work_of_the_calls() -> None:
    """Two streams that overlap, the prompt of the second beside the first one's tokens."""
    calls = (call(0.0, 1.0, 7.0, prompt=64, output=7), call(2.0, 4.0, 7.0, prompt=80, output=4, name="b"))
    steps = (
        prompt(1.0, 64, running=1),
        streams(2.0, 1, running=1),
        prompt(3.0, 40, streams=1, stream_tokens=1, running=2),
        prompt(4.0, 40, streams=1, stream_tokens=1, running=2),
        streams(5.0, 2, running=2),
        streams(6.0, 2, running=2),
        streams(7.0, 2),
    )
    timed = timed_steps(EngineRecords(10.0, calls, steps=steps))
    found = sum((done(machine(), one.step, one.began, *calls).work for one in timed), NOTHING)
    first = [64 + said for said in range(1, 7)]
    second = [80 + said for said in range(1, 4)]
    alone = prefill_work(LANGUAGE, [64, 80], 2) + sum(
        (decode_work(LANGUAGE, [context], 2) for context in (*first, *second)), NOTHING
    )
    assert len(timed) == 7
    assert found.attention_flops == alone.attention_flops
    assert found.weight_bytes == 7 * LANGUAGE.parameters * 2


def test_a_step_is_handed_the_calls_that_ran_in_it() -> None:
    first, second, third = call(0.0, 1.0, 3.0), call(1.0, 2.0, 5.0), call(4.0, 4.0, 4.0)  # the last was never in a step
    steps = [TimedStep(streams(ended, 1), ended - 1) for ended in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)]
    found = [calls for _, calls in with_calls(steps, (third, second, first))]
    assert found == [[first], [first, second], [first, second], [second], [second], []]


def test_a_step_of_nothing_that_the_engine_holds_has_no_work() -> None:
    assert Model(encoder_machine()).work_of(TimedStep(prompt(5.0, 10), 4.0), ()) is None


@pytest.mark.parametrize(
    ("changes", "said"), [({"quantization": "fp8"}, "fp8"), ({"config": {"model_type": "gemma3"}}, "gemma3")]
)
def test_what_is_not_known_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Model(machine(**changes))
