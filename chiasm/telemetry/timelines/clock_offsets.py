"""How far another machine's clock is from ours, told from questions and answers: as NTP does, without its filters.

An answer that carries the time at which it was given was given between the question and its arrival. That is all that
is known, so half the round trip is what the estimate may be wrong by.
"""

from collections.abc import Iterable

from msgspec import Struct


class Exchange(Struct, frozen=True):
    """One question and its answer, in unix seconds."""

    asked: float  # by our clock
    said: float  # by theirs, when it answered
    answered: float  # by ours


class ClockOffset(Struct, frozen=True):
    """Their clock shows `seconds` more than ours, give or take `uncertainty` (seconds).

    Of the moment of the exchange: of a clock that was set since the time in question nothing is known.
    """

    seconds: float
    uncertainty: float

    def ours(self, theirs: float) -> float:
        """A time of theirs by our clock."""
        return theirs - self.seconds


SAME_CLOCK = ClockOffset(0.0, 0.0)


def estimate(exchanges: Iterable[Exchange]) -> ClockOffset:
    """The offset by the exchange with the least round trip, for it leaves the least room for error.

    An offset within its uncertainty counts as zero: no difference explains the exchange as well, and it is the likely
    truth, for engines share the gateway's host or keep time by NTP, more closely than a round trip can tell. What is
    measured there is how long question and answer took unequally; corrected by that, times of one and the same clock
    would come out of order.

    Raises:
        ValueError: there is no exchange.
    """
    best = min(exchanges, key=_round_trip)
    seconds, uncertainty = best.said - (best.asked + best.answered) / 2, _round_trip(best) / 2
    if abs(seconds) <= uncertainty:
        return ClockOffset(0.0, abs(seconds) + uncertainty)
    return ClockOffset(seconds, uncertainty)


def _round_trip(exchange: Exchange) -> float:
    return abs(exchange.answered - exchange.asked)  # negative where our own clock was set back meanwhile
