"""Which chunk follows from measured steps, and what vLLM is told of it."""

import pytest

from chiasm.calibration import FLOOR, Step, choose, prompt_sizes, step_flags


def steps(streams: int, *milliseconds: tuple[int, float]) -> list[Step]:
    return [Step(streams, prompt, took / 1000) for prompt, took in milliseconds]


AFFINE = steps(8, (0, 20), (16, 24), (64, 36), (256, 84), (1024, 276))  # 0.25 ms for a token of a prompt


@pytest.mark.parametrize(
    ("objective_ms", "tokens", "step_ms"),
    [(1000, 1024, 276), (276, 1024, 276), (200, 720, 200), (84, 256, 84), (83, 240, 80), (36, 64, 36), (24, 16, 24)],
)
def test_the_largest_chunk_within_the_objective_is_chosen(objective_ms: float, tokens: int, step_ms: float) -> None:
    chunk = choose(AFFINE, objective_ms / 1000)
    assert (chunk.tokens, chunk.streams, chunk.kept) == (tokens, 8, True)
    assert chunk.step_s == pytest.approx(step_ms / 1000)


@pytest.mark.parametrize("objective_ms", [23.9, 20, 19, 1])
def test_below_the_floor_it_is_the_floor_and_the_objective_is_not_kept(objective_ms: float) -> None:
    chunk = choose(AFFINE, objective_ms / 1000)
    assert (chunk.tokens, chunk.kept) == (FLOOR, False)
    assert chunk.step_s == pytest.approx(0.024)


def test_only_the_steps_with_most_streams_count() -> None:
    assert choose([*steps(1, (0, 5), (1024, 900)), *AFFINE], 0.2).tokens == 720


def test_a_step_that_was_held_up_does_not_make_the_chunk_smaller() -> None:
    held_up = [step if step.prompt != 64 else Step(8, 64, 5.0) for step in AFFINE]
    assert choose(held_up, 0.2).tokens == 720


def test_decoding_alone_that_is_too_slow_needs_no_more_to_be_known() -> None:
    chunk = choose(steps(1, (0, 500)), 0.2)
    assert (chunk.tokens, chunk.kept) == (FLOOR, False)


@pytest.mark.parametrize("known", [[], steps(1, (0, 5)), [*steps(1, (0, 5), (16, 9)), *steps(2, (0, 6))]])
def test_steps_that_do_not_tell_are_refused(known: list[Step]) -> None:
    with pytest.raises(ValueError, match="no step with a prompt"):
        choose(known, 0.2)


def test_sizes_grow_to_the_largest() -> None:
    assert list(prompt_sizes(2016)) == [16, 64, 256, 1024, 2016]
    assert list(prompt_sizes(64)) == [16, 64]
    assert list(prompt_sizes(16)) == [16]


@pytest.mark.parametrize(
    ("tokens", "streams", "max_num_seqs", "flags"),
    [
        (400, 8, None, {"batched": 408, "long": 400, "seqs": 128}),
        (64, 8, None, {"batched": 72, "long": 64, "seqs": 56}),
        (16, 4, None, {"batched": 24, "long": 16, "seqs": 8}),
        (16, 1, 2, {"batched": 18, "long": 16}),
        (400, 8, 32, {"batched": 408, "long": 400}),
        (64, 8, 256, {"batched": 272, "long": 64}),
    ],
)
def test_the_flags_leave_prompts_a_share_of_each_step(
    tokens: int, streams: int, max_num_seqs: int | None, flags: dict[str, int]
) -> None:
    found = dict(flag.split("=") for flag in step_flags(tokens, streams, max_num_seqs))
    names = {
        "batched": "--max-num-batched-tokens",
        "long": "--long-prefill-token-threshold",
        "seqs": "--max-num-seqs",
    }
    assert found == {names[name]: str(value) for name, value in flags.items()}
    seqs = flags.get("seqs", max_num_seqs)
    assert seqs is not None
    assert flags["batched"] - seqs >= FLOOR
