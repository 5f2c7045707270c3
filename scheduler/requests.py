"""What the core remembers of one live request.

Owns the record, not its transitions (`scheduler.core`). Imports only `chiasm.{nouns,messages}`, the standard library,
and the records that it refers to.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from chiasm.messages import Submit
from chiasm.nouns import Embedding, Item, ItemUuid, RequestId, RequestState, WorkerId
from scheduler.directory import Entry
from scheduler.workers import DecodeWorker


@dataclass(slots=True, eq=False)
class LiveRequest:
    """A request between Submit and its end. It waits for the encodes in `waiting`; `entries` it has.

    While it is withheld its entries are in use (`Entry.users`), so their loss is noticed at once; from Decode on they
    only say what was handed out. A request bound for a `whole` worker has neither.
    """

    id: RequestId
    arrival: int  # its place in the order of all Submits
    items: tuple[Item, ...]
    distinct: dict[ItemUuid, Item]  # in prompt order
    text_tokens: int
    output_tokens: int
    deadline: float  # in the core's time
    tag: float = 0.0  # its turn (`scheduler.fairness`)
    state: RequestState = RequestState.ENCODING
    waiting: dict[ItemUuid, None] = field(default_factory=dict)
    entries: dict[ItemUuid, Entry] = field(default_factory=dict)
    kept: bool = False  # its entries count as needed until a decoder has room (`Entry.ready`)
    encodes: dict[ItemUuid, int] = field(default_factory=dict)  # attempts that ended while it waited for them
    decodes: int = 0  # attempts handed out, returned ones not counted
    stealable: bool = False
    decode_failed_on: set[WorkerId] = field(default_factory=set)
    decoder: DecodeWorker | None = None  # set exactly while DECODING

    @classmethod
    def of(cls, submit: Submit, arrival: int, now: float) -> "LiveRequest":
        """The record of a new request; negative sizes count as none."""
        return cls(
            id=submit.request,
            arrival=arrival,
            items=submit.items,
            distinct={item.uuid: item for item in submit.items},
            text_tokens=max(submit.text_tokens, 0),
            output_tokens=max(submit.output_tokens, 0),
            deadline=now + submit.deadline_s,
            stealable=submit.stealable and not submit.items,
        )

    @property
    def largest_first(self) -> Iterable[Item]:
        """Its distinct items in the order in which they are placed.

        Each goes where it is done first, so that they fan out only as far as that helps; the largest have the choice,
        as in R. Graham, "Bounds on multiprocessing timing anomalies", 1969.
        """
        items = self.distinct.values()
        return sorted(items, key=lambda item: -item.tokens) if len(items) > 1 else items

    @property
    def has_embeddings(self) -> bool:
        """Is every item of it encoded? True of text."""
        return len(self.entries) == len(self.distinct)

    def embeddings(self) -> tuple[Embedding, ...]:
        """The embeddings of its distinct items, in prompt order."""
        return tuple(self.entries[uuid].embedding for uuid in self.distinct)

    def kv_tokens(self) -> int:
        """Tokens it takes in a KV cache at most: measured for encoded items, estimated for others."""
        text = self.text_tokens + self.output_tokens
        return text + sum(self._tokens(item) for item in self.items) if self.items else text

    def _tokens(self, item: Item) -> int:
        entry = self.entries.get(item.uuid)
        return max(entry.embedding.shape[0] if entry else item.tokens, 0)
