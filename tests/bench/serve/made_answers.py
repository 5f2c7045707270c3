"""Answers with times that a test sets."""

from bench.load.answers import Answer
from bench.serve.staircase import Rung

GAPS = 20  # between tokens of an answer


def answer(ttft_ms: float, itl_ms: float, kind: str = "1img", due_s: float = 0.0, error: str | None = None) -> Answer:
    first = due_s + ttft_ms / 1000
    chunks = tuple(first + itl_ms / 1000 * number for number in range(GAPS + 1))
    return Answer(0, kind, due_s, due_s, chunks, chunks[-1], 10, GAPS + 1, error)


def rung(answers: list[Answer], grown: int = 0, due: int = 20) -> Rung:
    """Watched for ten seconds, in which so many came, and so many more were under way at the end."""
    gaps_s = [gap_s for each in answers if each.ok for gap_s in each.gaps_s]
    return Rung(answers, gaps_s, due, 0, grown, 10.0)


def alike(count: int, ttft_ms: float, itl_ms: float, kind: str = "1img") -> list[Answer]:
    return [answer(ttft_ms, itl_ms, kind, due_s=float(number)) for number in range(count)]
