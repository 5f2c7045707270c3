"""Has what is compared up and ready: arrangements that are started here, and servers that were there before.

As many stay up together as memory has room for, so that all of them take turns. Where that is not all, the first is in
every group: how much it answers at once there tells how far the machine has drifted from one group to the next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from bench.topologies.arrangement import Arrangement
from bench.topologies.arrangements import starting_all
from bench.topologies.pace import slowed
from bench.topologies.resources import SPARE_BYTES, available_bytes, memory_bytes
from bench.topologies.running import Remote, Running
from bench.topologies.setting import Setting
from bench.topologies.turns import Wake, in_turns
from chiasm.calibration import Chunk

AGAIN = " again"  # after the name of the first in every group but its first, and then which group's


class NoRoom(ValueError):
    """The arrangements cannot be compared in so little memory; the message says what would do."""


def grouped(needs: Mapping[str, int], room: int) -> list[list[str]]:
    """Names in groups, in their order, none of which needs more than there is room for. Needs and room are in bytes.

    Raises:
        NoRoom: one does not fit beside the first.
    """
    first, *others = needs
    groups = [[first]]
    for name in others:
        together = needs[first] + needs[name]
        if together > room:
            raise NoRoom(
                f"{first} and {name} need about {together / 2**30:.1f} GiB of memory together, and "
                f"{room / 2**30:.1f} GiB are free. Cure: end other programs, or compare fewer: --topology."
            )
        if sum(needs[each] for each in groups[-1]) + needs[name] > room:
            groups.append([first])
        groups[-1].append(name)
    return groups


def side_names(groups: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """For each group: what a side is called in figures -> what it is."""
    return [
        {name + (f"{AGAIN} {number}" if number and name == groups[0][0] else ""): name for name in group}
        for number, group in enumerate(groups)
    ]


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
    sides: Sequence[str], setting: Setting, key: str | None, note: Callable[[str, Sequence[Mapping[str, object]]], None]
) -> Iterator[Mapping[str, Wake]]:
    """All of them ready, for as long as the context lasts. `key` is for servers that were there before.

    Whatever engine runs on the encoder's cores is slower by the setting's pace once all are ready; what holds it to
    that also wakes it where it is not asked. `note` is told the prefill chunks of each side, under `chunks_of` it.

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
            note(chunks_of(side), [_told(chunk) for chunk in one.calibrated])
        if setting.pace > 1:
            stack.enter_context(slowed(setting.cores[0], 1 / setting.pace))
        yield stack.enter_context(in_turns({side: running[side] for side in sides}))


def _told(chunk: Chunk) -> dict[str, object]:
    """For a report: the prefill chunk, and whether the median step with it keeps the objective that it is for."""
    return {
        "prefill_chunk": chunk.tokens,
        "beside_streams": chunk.streams,
        "step_ms": round(1000 * chunk.step_s, 1),
        "kept": chunk.kept,
    }
