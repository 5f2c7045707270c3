"""Dice for a server that may have been asked before: the same requests again, and nothing that a cache knows."""

import random
from typing import Any


class _Salted(random.Random):
    content = random.Random(0)

    def choices(self, population: Any, weights: Any = None, *, cum_weights: Any = None, k: int = 1) -> list[Any]:
        """Letters and words are drawn without weights; kinds of pictures have some."""
        if weights is None and cum_weights is None:
            return self.content.choices(population, k=k)
        return super().choices(population, weights, cum_weights=cum_weights, k=k)

    def randbytes(self, n: int) -> bytes:
        """Pixels."""
        return self.content.randbytes(n)


def salted(seed: object, salt: str) -> random.Random:
    """Counts, sizes, lengths and times follow from the seed; letters, words and pixels from the salt too."""
    dice = _Salted(str(seed))
    dice.content = random.Random(f"{seed} {salt}")
    return dice
