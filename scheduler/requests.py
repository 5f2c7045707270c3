"""What the core remembers of one live request.

Owns the record, not its transitions (`scheduler.roster`). Imports only `chiasm.{nouns,messages}`, msgspec, the standard
library, and the records that it refers to.
"""

from collections.abc import Iterable

from msgspec import Struct

from chiasm.messages import Submit
from chiasm.nouns import Item, ItemUuid, RequestId, RequestState, WorkerId
from scheduler.directory import Entry
from scheduler.workers import DecodeWorker


class Part(Struct, eq=False):
    """One distinct item of a request: it waits for its encode, or has an entry, or neither."""

    item: Item
    times: int  # that it stands in the prompt
    tokens: int  # each time: an estimate, until its embedding has been seen
    waiting: bool = False
    entry: Entry | None = None
    encodes: int = 0  # attempts that ended while it waited for them
    known: bool = False  # it has had an entry before


class LiveRequest(Struct, eq=False):
    """A request between Submit and its end.

    While it is withheld the entries of its parts are in use (`Entry.users`), so their loss is noticed at once; from
    Decode on they only say what was handed out. The parts of a request bound for a `whole` worker (`whole`) have none.
    """

    id: RequestId
    arrival: int  # its place in the order of all Submits
    deadline: float  # in the core's time
    output_tokens: int  # that it may generate
    kv_tokens: int  # it takes in a KV cache at most, these included
    parts: dict[ItemUuid, Part]  # in prompt order; none of a text request
    stealable: bool
    streams: bool
    tag: float = 0.0  # its turn (`scheduler.fairness`)
    state: RequestState = RequestState.ENCODING
    waiting: int = 0  # of its parts, how many wait for their encode
    whole: bool = False  # it has images, and is to go to a worker that encodes them itself
    kept: bool = False  # its entries count as needed until a decoder has room (`Entry.ready`)
    decodes: int = 0  # attempts handed out, returned ones not counted
    decode_failed_on: frozenset[WorkerId] = frozenset()
    decoder: DecodeWorker | None = None  # set exactly while DECODING

    @property
    def largest_first(self) -> Iterable[Part]:
        """Its parts in the order in which they are placed.

        Each goes where it is done first, so that they fan out only as far as that helps; the largest have the choice,
        as in R. Graham, "Bounds on multiprocessing timing anomalies", 1969.
        """
        parts = self.parts.values()
        return sorted(parts, key=lambda part: -part.item.tokens) if len(parts) > 1 else parts

    @property
    def prompt_tokens(self) -> int:
        """Of its prompt: an estimate, until its embeddings have been seen."""
        return self.kv_tokens - self.output_tokens

    @property
    def prefill_tokens(self) -> int:
        """Tokens of its prompt, where they count for how many prompts a decoder computes at once.

        Those with images do, if their gateway can say when they are through.
        """
        return self.prompt_tokens if self.parts and self.streams else 0

    @property
    def entries(self) -> list[Entry]:
        """The entries of its parts, in prompt order."""
        return [part.entry for part in self.parts.values() if part.entry is not None]

    def found(self, uuid: ItemUuid, entry: Entry) -> Part:
        """The embedding of that part lies here: now it is known how much it takes."""
        part = self.parts[uuid]
        self.waiting -= part.waiting
        part.waiting, part.entry, part.known = False, entry, True
        tokens = entry.embedding.shape[0]
        if tokens < 0:
            tokens = 0
        self.kv_tokens += part.times * (tokens - part.tokens)
        part.tokens = tokens
        return part


def live_request(submit: Submit, arrival: int, now: float) -> LiveRequest:
    """A request that comes `now`, in the core's time. Negative sizes count as none."""
    output_tokens = submit.output_tokens if submit.output_tokens > 0 else 0
    kv_tokens = output_tokens + (submit.text_tokens if submit.text_tokens > 0 else 0)
    parts: dict[ItemUuid, Part] = {}
    for item in submit.items:
        part = parts.get(item.uuid)
        if part is None:
            part = parts[item.uuid] = Part(item, 0, item.tokens if item.tokens > 0 else 0)
        part.times += 1
        kv_tokens += part.tokens
    stealable = submit.stealable and not parts
    deadline = now + submit.deadline_s
    return LiveRequest(submit.request, arrival, deadline, output_tokens, kv_tokens, parts, stealable, submit.streams)
