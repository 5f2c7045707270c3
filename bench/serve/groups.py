"""Which arrangements stay up together: as many as memory has room for, so that all of them take turns.

Where that is not all, the first is in every group. What it gives there tells how far the machine has drifted from one
group to the next.
"""

from collections.abc import Mapping, Sequence

AGAIN = " again"  # after the name of the first in every group but its first


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
        {name + (AGAIN if number and name == groups[0][0] else ""): name for name in group}
        for number, group in enumerate(groups)
    ]
