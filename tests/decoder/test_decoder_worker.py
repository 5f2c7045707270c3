"""What the decoder worker reads from the engine's arguments."""

import pytest

from decoder.worker import DEFAULT_SLOTS, slots_of


@pytest.mark.parametrize(
    ("arguments", "slots"),
    [
        ([], DEFAULT_SLOTS),
        (["--max-num-seqs", "7"], 7),
        (["--dtype=float32", "--max-num-seqs=9"], 9),
    ],
)
def test_slots_are_what_the_engine_runs_at_once(arguments: list[str], slots: int) -> None:
    assert slots_of(arguments) == slots
