"""Answers and slots as if they had been measured, with known figures in them."""

from dataclasses import replace

from bench.itl.plan import NOTHING, Drive, Kind, Load, Slot
from bench.itl.slots import Seen, read
from bench.load.answers import Answer

GAP_S = 0.05
PROMPT = 30  # tokens of a prompt without a load
SLOT_S = 4.0
BYSTANDER = "bystander 1"
BASE = Slot(Kind.LIVE, NOTHING)
PICTURE = Slot(Kind.LIVE, Load(1, 448))
TEXT = Slot(Kind.TEXT, Load(1, 448))
ENCODED = Slot(Kind.ENCODED, Load(1, 448))
DRIVE = Drive("loads", 1, (BASE, PICTURE, TEXT, ENCODED), 4, SLOT_S)


def answer(
    kind: str,
    due_s: float,
    chunks_s: tuple[float, ...],
    *,
    prompt_tokens: int | None = PROMPT,
    error: str | None = None,
    encoded_ms: float | None = None,
) -> Answer:
    phases = {} if encoded_ms is None else {"fetch": 1.0, "encode": encoded_ms}
    ended_s = chunks_s[-1] if chunks_s else due_s
    return Answer(0, kind, due_s, due_s, chunks_s, ended_s, prompt_tokens, len(chunks_s), error, phases_ms=phases)


def carrier(slot: Slot, due_s: float, first_s: float = 0.1, tokens: int = 0, **more: object) -> Answer:
    chunks_s = tuple(due_s + first_s + GAP_S * number for number in range(4))
    return replace_fields(answer(slot.name, due_s, chunks_s, prompt_tokens=PROMPT + tokens), more)


def replace_fields(one: Answer, more: dict[str, object]) -> Answer:
    import msgspec

    changed = msgspec.structs.replace(one, **more)
    assert isinstance(changed, Answer)
    return changed


def stream(until_s: float, stalls: dict[float, float] | None = None) -> Answer:
    """A bystander from 0 on: a token each `GAP_S`, but from each of these moments on none for so long."""
    waits = dict(stalls or {})
    chunks, at = [], 0.0
    while at < until_s:
        chunks.append(at)
        begins = next((moment for moment in waits if moment <= at), None)
        at += GAP_S + (waits.pop(begins) if begins is not None else 0.0)
    return answer(BYSTANDER, 0.0, tuple(chunks))


def tokens_of(load: Load) -> int:
    return load.pictures * load.side * 500 // 448


def slots_with(
    stalls: dict[Slot, float], side: str = "split", block: int = 1, drive: Drive = DRIVE, first_s: float = 0.1
) -> list[Seen]:
    """One block in which carriers come at the beginning of a slot, each has its first token `first_s` later, and each
    stalls a bystander for so many seconds.
    """
    carriers, waits = [], {}
    for number, slot in enumerate(drive.slots):
        begins = drive.slot_s * number
        waits[begins] = stalls.get(slot, 0.0) * slot.carriers
        carriers += [carrier(slot, begins, first_s, tokens_of(slot.load))] * slot.carriers
    bystander = stream(drive.slot_s * len(drive.slots), waits)
    return read([bystander, *carriers], drive, side, block)


def overloaded(one: Seen) -> Seen:
    return replace(one, overload="overloaded")


def failed(one: Seen) -> Seen:
    return replace(one, failure="a carrier failed")
