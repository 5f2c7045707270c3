"""What a worker reads from its engine's arguments."""

import pytest

from chiasm.capacity import DEFAULT_SLOTS, slots_of


@pytest.mark.parametrize(
    ("arguments", "slots"),
    [
        ([], DEFAULT_SLOTS),
        (["--max-num-seqs", "7"], 7),
        (["--dtype=float32", "--max-num-seqs=9"], 9),
        (["--max_num_seqs", "3"], 3),
        (["--max-num-seqs=1", "--max-num-seqs=2"], 2),
        (["--max-num-batched-tokens=64"], 64),  # vLLM runs no more than a step has tokens
        (["--max-num-batched-tokens=64", "--max-num-seqs=7"], 7),
        (["--max_num_batched_tokens", "2048"], DEFAULT_SLOTS),
    ],
)
def test_slots_are_what_the_engine_runs_at_once(arguments: list[str], slots: int) -> None:
    assert slots_of(arguments) == slots


@pytest.mark.parametrize("arguments", [["--max-num-seqs"], ["--max-num-seqs", "many"], ["--max-num-batched-tokens=k"]])
def test_slots_that_are_no_number_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="max-num-"):
        slots_of(arguments)
