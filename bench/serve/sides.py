"""Has what is compared up and ready: arrangements that are started here, and servers that were there before."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from bench.load.asking import Endpoint
from bench.serve.groups import grouped
from bench.topologies.arrangement import Arrangement
from bench.topologies.arrangements import starting_all
from bench.topologies.pace import slowed
from bench.topologies.resources import SPARE_BYTES, available_bytes, memory_bytes
from bench.topologies.running import Remote, Running
from bench.topologies.setting import Setting


def groups_of(sides: Sequence[str], setting: Setting) -> list[list[str]]:
    """Sides that fit into memory together.

    Raises:
        NoRoom: see `grouped`.
    """
    needs = {side: memory_bytes(Arrangement(side), setting) if is_started_here(side) else 0 for side in sides}
    return grouped(needs, available_bytes() - SPARE_BYTES)


def is_started_here(side: str) -> bool:
    """Whether it is an arrangement's name; else it is the URL of a server."""
    return side in list(Arrangement)


def chunks_of(side: str) -> str:
    """What a journal notes the prefill chunks of a side under."""
    return f"prefill chunks of {side}"


@contextmanager
def up(
    sides: Sequence[str], setting: Setting, key: str | None, note: Callable[[str, Sequence[int]], None]
) -> Iterator[Mapping[str, Endpoint]]:
    """All of them ready, for as long as the context lasts. `key` is for servers that were there before.

    Whatever engine runs on the encoder's cores is slower by the setting's pace once all are ready. `note` is told the
    prefill chunks of each side, under `chunks_of` it.

    Raises:
        NotEnough, NotServing, NotCalibrated, PreflightFailed: one could not be started.
        Straddling: an engine would be slow in part.
    """
    ours = [Arrangement(side) for side in sides if is_started_here(side)]
    with ExitStack() as stack:
        running: dict[str, Running] = {side: Remote(side, key) for side in sides if not is_started_here(side)}
        for remote in running.values():
            remote.wait_ready()  # before minutes go by for those that must be started
        running |= {side.value: one for side, one in stack.enter_context(starting_all(ours, setting)).items()}
        for one in running.values():
            one.wait_ready()
        for side, one in running.items():
            note(chunks_of(side), one.chunks)
        if setting.pace > 1:
            stack.enter_context(slowed(setting.cores[0], 1 / setting.pace))
        yield {side: running[side].endpoint for side in sides}
