"""The workers that requests are stolen from, and what waits for them: what a theft saves, and what a return costs.

Imports only the standard library and its neighbours.
"""

import math
from dataclasses import dataclass

from scheduler.crew import DecodeCrews
from scheduler.requests import LiveRequest
from scheduler.workers import DecodeWorker


@dataclass(frozen=True, slots=True)
class Victims:
    """The workers that requests are stolen from, at this moment."""

    crew: DecodeCrews
    owed: int  # tokens that what they hold, and what waits for them, may generate

    @property
    def live(self) -> bool:
        """Are there any? Else there is no wait and no inter-token latency to compare with."""
        return self.crew.workers > 0

    @property
    def wait_s(self) -> float:
        """Until the last request of the queue has its turn."""
        return self.owed / self.crew.tokens_per_s

    @property
    def itl_s(self) -> float:
        """Of one more stream."""
        return (self.crew.running + self.crew.workers) / self.crew.tokens_per_s

    def limit_itl_s(self, output_tokens: int) -> float:
        """What a token may take with a thief at most, pauses aside, so that a request of so many gains by it."""
        if not self.live or not output_tokens:
            return math.inf
        return self.itl_s + self.wait_s / output_tokens

    def turn_s(self, ahead: int, free: int, now: float) -> float:
        """Until a request has a credit there that is the next in the queue but for so many others.

        Each credit is held for the mean time; before any answer has shown it, for as long as all that they owe takes.
        So it becomes free when that has passed since it was handed out (`DecodeCrews.free_in`); and as some are held
        for longer, they become free no faster than one after the other in that time.

        Args:
            free: credits that such requests could have at once.
        """
        if ahead < free:
            return 0.0
        running = self.crew.running + free
        if not self.live or not running:
            return math.inf
        held_s = self.crew.held.seconds or self.crew.owed / self.crew.tokens_per_s
        place = ahead - free + 1
        evenly_s = place * held_s / running
        free_in = self.crew.free_in(place, held_s, now)
        if not free_in:
            return evenly_s
        rounds, last = divmod(place - 1, len(free_in))
        return max(evenly_s, free_in[last] + rounds * held_s)

    def again_s(self, request: LiveRequest, made: float, prompt_rate: float) -> float:
        """What a return costs besides the wait: a decoder computes anew what the thief's engine has in its cache.

        Of a stream that is a prompt, with the tokens `made` so far; any other answer is generated again from its first
        token on.

        Args:
            prompt_rate: tokens of prompts a second, of one encoder: a decoder counts as as fast until it was seen.
        """
        measured = self.crew.decoders.prompt_rate
        if measured is not None:
            prompt_rate = measured.tokens_per_s
        if request.streams:
            return (request.prompt_tokens + made) / prompt_rate
        return request.prompt_tokens / prompt_rate + made * self.itl_s

    def cap(self, thief: DecodeWorker) -> int:
        """Most requests that a thief may hold: what a victim holds in mean, by how much slower it is; at least one."""
        if not self.live:
            return thief.credits
        return max(1, math.floor(self.crew.running * thief.rate.tokens_per_s / self.crew.tokens_per_s))
