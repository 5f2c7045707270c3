"""What a drive's answers tell of each of its slots. Pure."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from bench.itl.plan import Drive, Kind, Slot
from bench.itl.traffic import is_bystander
from bench.load.answers import Answer

LEAST_USUAL = 20  # gaps of one stream, to tell what is usual: streams of one engine go in step
ENCODE = "encode"  # the phase that a Chiasm gateway tells of a request for which an encoder was asked


class Unmeasurable(RuntimeError):
    """What is asked cannot be measured of this endpoint; the message says why, and what to do."""


class Gap(NamedTuple):
    """Between two tokens of a bystander. Seconds since its slot began; the first may have begun before."""

    began_s: float
    ended_s: float
    line: str  # the bystander's, whose successors count as the same

    @property
    def seconds(self) -> float:
        """How long it was."""
        return self.ended_s - self.began_s


@dataclass(frozen=True)
class Seen:
    """One slot, on one side, in one block. Times in seconds."""

    side: str
    block: int
    drive: Drive
    slot: Slot
    tokens: int  # that each carrier's load added to its prompt, as the server counts them
    gaps: tuple[Gap, ...]  # that ended in it
    bystanders: tuple[Answer, ...]  # that were sent in it
    carriers: tuple[Answer, ...]
    usual_before_s: float | None = None  # what `usual_s` was in the slot before it, if it was untroubled
    failure: str | None = None  # why nothing can be told of it
    overload: str | None = None  # why only what was suffered while its carriers were computed counts

    @property
    def fault(self) -> str | None:
        """Why no slope or median has it."""
        return self.failure or self.overload

    @property
    def gaps_s(self) -> list[float]:
        """How long they were."""
        return [gap.seconds for gap in self.gaps]

    @property
    def mean_s(self) -> float:
        """The bystanders' mean inter-token latency."""
        return statistics.fmean(self.gaps_s)

    @property
    def running(self) -> float:
        """How many bystanders were being answered, in the mean."""
        return sum(self.gaps_s) / self.drive.slot_s

    @property
    def brought(self) -> int:
        """The tokens of all its carriers."""
        return self.tokens * self.slot.carriers

    @property
    def computed_s(self) -> float:
        """How long its carriers were computed: from when they were due until the last had its first token."""
        return max(answer.tokens_s[0] if answer.chunks_s else answer.ended_s for answer in self.carriers) - self.due_s

    @property
    def due_s(self) -> float:
        """When its carriers were due: its beginning, in seconds since the drive began."""
        return self.carriers[0].due_s

    @property
    def answered_s(self) -> float:
        """When the last of its carriers was answered, since its beginning."""
        return max(answer.ended_s for answer in self.carriers) - self.due_s

    @property
    def usual_s(self) -> float | None:
        """A bystander's mean gap when the slot's carriers were through; None where these are too few."""
        usual = [gap for gap in self.gaps if gap.began_s >= self.answered_s]
        most = max(Counter(gap.line for gap in usual).values(), default=0)
        return statistics.fmean(gap.seconds for gap in usual) if most >= LEAST_USUAL else None

    @property
    def base_s(self) -> float | None:
        """A bystander's gap as it would have been without carriers: what was usual directly before they came and
        directly after they were through; None where the latter is not told.

        A machine that others share is faster at one time and slower at another, by more than carriers add. So it is
        told by no other time.
        """
        if self.usual_s is None or self.usual_before_s is None:
            return self.usual_s
        return (self.usual_before_s + self.usual_s) / 2

    @property
    def stall_s(self) -> float | None:
        """What each bystander waited beyond its usual gaps while carriers were computed, summed; None where the usual
        ones are not told.

        A stream got window / mean tokens in that time, which would have taken base * window / mean seconds. The rest it
        stood still. Unlike the mean itself this is proportional to what carriers cost, and does not depend on how often
        they come. What they cost once they generate is no matter of what they brought, and would only add noise.
        """
        beside = [gap for gap in self.gaps if gap.began_s < self.computed_s]
        if self.base_s is None or not beside:
            return None
        window_s = max(gap.ended_s for gap in beside) - min(gap.began_s for gap in beside)
        return window_s * (1 - self.base_s / statistics.fmean(gap.seconds for gap in beside))


def read(answers: Sequence[Answer], drive: Drive, side: str, block: int) -> list[Seen]:
    """The slots of that drive, in the order in which they came.

    Raises:
        Unmeasurable: the server does not count prompt tokens.
    """
    slots = {slot.name: slot for slot in drive.slots}
    bystanders = [answer for answer in answers if is_bystander(answer)]
    groups: dict[float, list[Answer]] = {}
    for answer in answers:
        if not is_bystander(answer):
            groups.setdefault(answer.due_s, []).append(answer)
    without = prompt_tokens([answer for group in groups.values() for answer in group if _is_empty(slots[answer.kind])])
    found: list[Seen] = []
    for begins, group in sorted(groups.items()):
        ends, slot = begins + drive.slot_s, slots[group[0].kind]
        one = Seen(
            side,
            block,
            drive,
            slot,
            tokens=0 if _is_empty(slot) else max(0, prompt_tokens(group) - without),
            gaps=_gaps(bystanders, begins, ends),
            bystanders=tuple(answer for answer in bystanders if begins <= answer.due_s < ends),
            carriers=tuple(group),
        )
        failure = _failure(one, ends, bystanders)
        before = found[-1] if found else None
        usual_before_s = before.usual_s if before and before.fault is None else None
        overload = _overload(one, before, ends)
        found.append(replace(one, usual_before_s=usual_before_s, failure=failure, overload=overload))
    return found


def prompt_tokens(answers: Sequence[Answer]) -> int:
    """Of one of these, which are alike; 0 if all have failed.

    Raises:
        Unmeasurable: see there.
    """
    answered = [answer for answer in answers if answer.ok]
    if any(answer.prompt_tokens is None for answer in answered):
        raise Unmeasurable(
            "The endpoint does not tell how many tokens a prompt has (usage.prompt_tokens, asked for with "
            "stream_options.include_usage). Latency over tokens needs that; ask a server that tells, as vLLM does."
        )
    return round(statistics.median(answer.prompt_tokens or 0 for answer in answered)) if answered else 0


def _gaps(bystanders: Sequence[Answer], begins: float, ends: float) -> tuple[Gap, ...]:
    return tuple(
        Gap(earlier - begins, later - begins, answer.kind)
        for answer in bystanders
        for earlier, later in pairwise(answer.tokens_s)
        if begins <= later < ends
    )


def _is_empty(slot: Slot) -> bool:
    return not slot.load.pictures


def _failure(one: Seen, ends: float, bystanders: Sequence[Answer]) -> str | None:
    if failed := next((answer for answer in one.carriers if not answer.ok), None):
        return f"a carrier failed: {failed.error}"
    if one.slot.load.pictures and (fault := _encode_fault(one)):
        return fault
    begins = ends - one.drive.slot_s
    if failed := next((a for a in bystanders if not a.ok and a.sent_s < ends and a.ended_s >= begins), None):
        return f"a bystander failed: {failed.error}"
    return None if len(one.gaps) > 1 or not one.drive.streams else "bystanders had no tokens"


def _encode_fault(one: Seen) -> str | None:
    """As far as the endpoint tells of it."""
    asked = [ENCODE in answer.phases_ms for answer in one.carriers if answer.phases_ms]
    if one.slot.kind is Kind.ENCODED and any(asked):
        return "the embeddings were not there any more, and pictures were encoded again"
    if one.slot.kind is Kind.LIVE and not all(asked):
        return "pictures were not encoded, though they were new"
    return None


def _overload(one: Seen, before: Seen | None, ends: float) -> str | None:
    if _runs_over(one, ends):
        return f"overloaded: not answered within {one.drive.slot_s:g} s"
    if before is not None and _runs_over(before, one.due_s):
        return "the slot before it ran over"
    return None


def _runs_over(one: Seen, ends: float) -> bool:
    """Whether its carriers are still being answered then, and so load the next slot."""
    return any(answer.ended_s >= ends for answer in one.carriers)
