"""What a gateway notes of one request while it runs: one stamp an event, and no more work than that.

`chiasm.telemetry.timelines` makes a timeline of it, with what engines remember. Times are unix seconds of the gateway.
"""

import time
from collections.abc import Callable, Iterable
from copy import copy
from enum import StrEnum
from typing import Self

from msgspec import Struct

from chiasm.nouns import Embedding, Item, ItemUuid, RequestId, Role, WorkerId


def encoder_call(request: RequestId, item: int) -> str:
    """The `X-Request-Id` under which an encoder is asked for the `item`th distinct item of `request`."""
    return f"{request}.{item}"


def steady_clock() -> Callable[[], float]:
    """A clock that shows unix seconds and goes on from now whatever the machine's is set to meanwhile."""
    ahead = time.time() - time.monotonic()
    return lambda: ahead + time.monotonic()


class AttemptEnd(StrEnum):
    """How the engine's part in an attempt ended, as the gateway saw it."""

    ANSWERED = "answered"
    FAILED = "failed"
    RETURNED = "given back"  # by a thief, for an image had to go first


class EncodeAttempt(Struct):
    """One post of one item to one encoder."""

    item: int  # which of the request's distinct items
    worker: WorkerId
    posted_at: float
    ended_at: float | None = None  # None for good if the request ended first
    end: AttemptEnd | None = None
    failure: str = ""
    tokens: int = 0
    nbytes: int = 0  # of the embedding


class DecodeAttempt(Struct):
    """One post of the request to one engine that generates: a decoder, a thief, or a `whole` worker."""

    worker: WorkerId
    role: Role
    keys: dict[str, int]  # of the embeddings that it has to fetch, and whose item each is
    posted_at: float
    first_token_at: float | None = None  # of streams only
    last_token_at: float | None = None  # its engine has said its last
    ended_at: float | None = None  # None for good if the request ended first, or the scheduler gave its worker up
    end: AttemptEnd | None = None
    failure: str = ""
    tokens: int = 0  # that it generated, and that stand


class Marks:
    """One request's marks. `clock` gives unix seconds (a `steady_clock`); the request has arrived when this is made.

    ::

        Marks ─► submitted ─► encode_posted ─► encode_answered ─► decode_posted ─► first_token ─► last_token
                               (each item)      encode_failed           ▲          decode_answered / _failed / _returned
                                                                        └─────────────────────────────┘
        and, from wherever it is: ended
    """

    def __init__(self, request: RequestId, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock = clock or steady_clock()
        self._index: dict[ItemUuid, int] = {}
        self.request = request
        self.arrived_at = clock()
        self.submitted_at: float | None = None
        self.streams = False  # then its first token can be seen
        self.item_tokens: tuple[int, ...] = ()  # estimated, of each distinct item
        self.encodes: list[EncodeAttempt] = []
        self.decodes: list[DecodeAttempt] = []
        self.ended_at: float | None = None
        self.outcome = ""  # the label that it is counted under

    @property
    def output_tokens(self) -> int:
        """Tokens of the answer so far."""
        return sum(attempt.tokens for attempt in self.decodes)

    def copy(self) -> Self:
        """As they are now, for another thread to read while the request goes on."""
        marks = copy(self)
        marks.encodes, marks.decodes = [*map(copy, self.encodes)], [*map(copy, self.decodes)]
        return marks

    def submitted(self, items: Iterable[Item], streams: bool) -> None:
        """It has been read, and is the scheduler's now."""
        self.submitted_at, self.streams = self._clock(), streams
        tokens = {item.uuid: item.tokens for item in items}
        self._index = {uuid: index for index, uuid in enumerate(tokens)}
        self.item_tokens = tuple(tokens.values())

    def encode_posted(self, uuid: ItemUuid, worker: WorkerId) -> EncodeAttempt:
        """An item goes to an encoder. The attempt is for `encode_answered` or `encode_failed`.

        Raises:
            KeyError: the request has no such item.
        """
        attempt = EncodeAttempt(self._index[uuid], worker, self._clock())
        self.encodes.append(attempt)
        return attempt

    def encode_answered(self, attempt: EncodeAttempt, tokens: int, nbytes: int) -> None:
        """It has an embedding of so many tokens and bytes."""
        attempt.ended_at, attempt.end = self._clock(), AttemptEnd.ANSWERED
        attempt.tokens, attempt.nbytes = tokens, nbytes

    def encode_failed(self, attempt: EncodeAttempt, reason: str) -> None:
        """It has none."""
        attempt.ended_at, attempt.end, attempt.failure = self._clock(), AttemptEnd.FAILED, reason

    def decode_posted(self, worker: WorkerId, role: Role, embeddings: Iterable[Embedding]) -> None:
        """The request goes to an engine that generates. All that follows is said of the latest such attempt."""
        keys = {one.key: self._index[one.uuid] for one in embeddings if one.uuid in self._index}
        self.decodes.append(DecodeAttempt(worker, role, keys, self._clock()))

    def first_token(self) -> None:
        """The first event of a stream that stands for a token is here."""
        self.decodes[-1].first_token_at = self._clock()

    def last_token(self) -> None:
        """The answer, or the last event of its stream, is here, however long its client takes to read it."""
        self.decodes[-1].last_token_at = self._clock()

    def decode_answered(self, tokens: int) -> None:
        """The answer is complete, by so many tokens of this attempt."""
        self._decode_ended(AttemptEnd.ANSWERED, tokens)

    def decode_returned(self, tokens: int) -> None:
        """A thief has stopped, after so many tokens that stand."""
        self._decode_ended(AttemptEnd.RETURNED, tokens)

    def decode_failed(self, reason: str, tokens: int) -> None:
        """The attempt broke off, after so many tokens that stand."""
        self._decode_ended(AttemptEnd.FAILED, tokens)
        self.decodes[-1].failure = reason

    def ended(self, outcome: str) -> None:
        """Nothing follows."""
        self.ended_at, self.outcome = self._clock(), outcome

    def _decode_ended(self, end: AttemptEnd, tokens: int) -> None:
        attempt = self.decodes[-1]
        attempt.ended_at, attempt.end, attempt.tokens = self._clock(), end, tokens
