"""Every scheduling message that crosses a process line: read this file and you know the protocol.

Gateways and workers speak to the scheduler over ZeroMQ (`chiasm.wire.channel`), one msgpack message a frame. The
scheduler's core takes these very objects as its events and returns them as its decisions. Tensors never travel here.

    gateway ──Submit, EncodeDone, EncodeFailed, DecodeBegun, DecodeDone, DecodeFailed, Returned, Cancel──► scheduler
    gateway ──AskStatus, AskReasons──► scheduler
    gateway ──Join, Alive──► scheduler
    gateway ◄──Encode, Decode, Return, Reject, Status, Reasons, Forgotten── scheduler
    worker  ──Register, Heartbeat, Lost, Evicted──► scheduler
    worker  ◄──Unknown, Pause, Resume── scheduler
"""

from enum import StrEnum

import msgspec
from msgspec import Struct

from chiasm.nouns import Embedding, GatewayId, Item, ItemUuid, RequestId, Role, WorkerId

PROTOCOL_VERSION = 6
"""Raised whenever a message changes shape; a peer of another version is refused by name."""


NOBODY = WorkerId("")


class Message(Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages: encoded as an array that starts with the class name."""


# -- gateway to scheduler ------------------------------------------------------------------------------------------


class Submit(Message, frozen=True):
    """A validated request asks for its way through the cluster."""

    request: RequestId
    items: tuple[Item, ...]  # in prompt order; the same uuid may stand more than once
    text_tokens: int  # estimated prompt tokens without the items
    output_tokens: int  # the most it may generate
    deadline_s: float  # seconds from now until it is rejected
    tenant: str = ""  # whose it is, for the fair queue
    weight: float = 1.0  # that tenant's share, by the shares of others
    streams: bool = False  # then its first token can be reported (DecodeBegun)
    stealable: bool = False  # it could go on elsewhere in mid-answer (`chiasm.continuable`)


class EncodeDone(Message, frozen=True):
    """The encoder answered: `embedding` may be fetched from it."""

    request: RequestId
    worker: WorkerId
    embedding: Embedding
    seconds: float  # from the post to the answer
    nbytes: int = 0  # what the embedding takes in the encoder's store


class EncodeFailed(Message, frozen=True):
    """The encode did not come about. `retryable` is False when the item itself is at fault.

    `unreachable`: there was no connection, or it broke. The engine counts as lost until its worker is heard of again.
    """

    request: RequestId
    worker: WorkerId
    uuid: ItemUuid
    reason: str
    retryable: bool
    unreachable: bool = False


class DecodeBegun(Message, frozen=True):
    """The first token of a stream about items has come: its prompt, which may be long, is through the prefill."""

    request: RequestId
    worker: WorkerId
    seconds: float  # from the post to that token


class DecodeDone(Message, frozen=True):
    """The answer is complete."""

    request: RequestId
    worker: WorkerId
    output_tokens: int
    seconds: float


class DecodeFailed(Message, frozen=True):
    """The decoder gave no complete answer.

    `lost` names the items whose embedding could not be fetched; with `retryable` they are encoded again. The gateway
    sets `retryable` only while it has delivered nothing to the client, or the rest can be generated elsewhere.
    `unreachable` as in EncodeFailed.
    """

    request: RequestId
    worker: WorkerId
    reason: str
    retryable: bool
    lost: tuple[ItemUuid, ...] = ()
    unreachable: bool = False


class Returned(Message, frozen=True):
    """The answer to Return: its stream has ended at the thief; so many of its tokens need not be generated again."""

    request: RequestId
    worker: WorkerId
    output_tokens: int


class Cancel(Message, frozen=True):
    """The client left, or the gateway gave up."""

    request: RequestId


class AskStatus(Message, frozen=True):
    """What is the cluster doing? Answered with Status under the same `request`."""

    request: RequestId


class AskReasons(Message, frozen=True):
    """Why was `about` treated as it was? Answered with Reasons under `request`."""

    request: RequestId
    about: RequestId


class Join(Message, frozen=True):
    """A gateway begins, or begins anew: what it has submitted before is cancelled, and what lives it submits again.

    Nothing else is taken of a gateway that has not joined by the connection that it speaks through: after a break
    nobody knows what got lost.
    """

    gateway: GatewayId


class Alive(Message, frozen=True):
    """The gateway lives; sent every `heartbeat_s`, missed for `heartbeat_timeout_s` means that its requests end."""

    joins: int  # that it has sent so far


# -- scheduler to gateway ------------------------------------------------------------------------------------------


class Encode(Message, frozen=True):
    """Post this item to that encoder, and report EncodeDone or EncodeFailed."""

    request: RequestId
    uuid: ItemUuid
    worker: WorkerId
    url: str


class Decode(Message, frozen=True):
    """Post the request to that decoder, each item replaced by its embedding's reference.

    `embeddings` has one entry per distinct item, and is empty for text and for a `whole` worker.
    """

    request: RequestId
    worker: WorkerId
    role: Role
    url: str
    embeddings: tuple[Embedding, ...]


class Return(Message, frozen=True):
    """Stop the request at the thief that generates it, and report Returned, or how it ended before that.

    A Decode elsewhere follows.
    """

    request: RequestId
    worker: WorkerId


class Forgotten(Message, frozen=True):
    """The scheduler knows nothing of this gateway's requests (it restarted, or gave the gateway up): join again.

    `joins` is that of the Alive it answers: if the gateway has joined since, this is out of date.
    """

    joins: int


class RejectReason(StrEnum):
    """Why a request ends without an answer; the gateway maps each to an HTTP status and an OpenAI error."""

    QUEUE_FULL = "queue_full"  # 429, with Retry-After
    NO_WORKER = "no_worker"  # 503: no healthy worker could ever take it
    DEADLINE = "deadline_exceeded"  # 504
    BAD_ITEM = "bad_item"  # 422: the encoder refused the item itself
    ATTEMPTS = "attempts_exhausted"  # 502: retried as often as allowed
    DECODE = "decode_failed"  # 502: failed in a way that a retry cannot mend


class Reject(Message, frozen=True):
    """The request ends here, with a named error."""

    request: RequestId
    reason: RejectReason
    detail: str
    retry_after_s: float | None = None


class WorkerStatus(Struct, frozen=True, array_like=True):
    """One registered worker, as the scheduler's core sees it."""

    worker: WorkerId
    role: Role
    node: str
    url: str
    running: int  # encodes or requests handed to its engine
    waiting: int  # assigned to it, and still withheld
    slots: int
    kv_tokens: int
    tokens_per_s: float
    held: int  # embeddings an encoder is known to hold
    measured: bool = True  # else it has answered nothing yet, and tokens_per_s is what it is taken to do
    fallback: str = ""  # why it is not where its pool wants it; nothing if it is


class ThiefStatus(Struct, frozen=True, array_like=True):
    """What decides whether a registered text engine steals, as the scheduler's core sees it now."""

    worker: WorkerId
    held: bool  # it stands still, as an image is encoded on its card
    encoder_busy_share: float  # of the time of late, in which its encoder had work
    patience_s: float  # for which its encoder must have been idle
    at_most: int  # requests that it may hold: as many as a decoder, by how much slower it is


class Status(Message, frozen=True):
    """A snapshot of the core. `ready` means that an image request and a text request could both be placed now."""

    request: RequestId
    ready: bool
    workers: tuple[WorkerStatus, ...]
    encoding: int
    withheld: int
    decoding: int
    counters: dict[str, int]  # since the scheduler started: requests by end, encodes, retries
    thieves: tuple[ThiefStatus, ...] = ()


class Reason(Struct, frozen=True, array_like=True):
    """One decision about a request, or an event that led to one, and the numbers that decided.

    `what` is one of `chiasm.explain.SENTENCES`, which say what its `numbers` mean. `others` are workers that were
    considered and not chosen, with the seconds until they would have been done.
    """

    at_s: float  # on the scheduler's clock
    what: str
    worker: WorkerId
    detail: str
    numbers: dict[str, float]
    others: tuple[tuple[WorkerId, float], ...]


class Reasons(Message, frozen=True):
    """What is known of the request `about`, oldest first; nothing of one that is unknown or long over.

    `now_s` is when it was answered, on the same clock as the reasons: it tells how long ago each was.
    """

    request: RequestId
    about: RequestId
    reasons: tuple[Reason, ...]
    now_s: float


# -- worker to scheduler -------------------------------------------------------------------------------------------


class Register(Message, frozen=True):
    """An engine is ready. Sent again after every engine restart and whenever the scheduler answers Unknown."""

    worker: WorkerId
    role: Role
    node: str
    url: str  # the engine's HTTP base URL
    slots: int  # requests the engine runs at once
    kv_tokens: int  # tokens its KV cache holds; 0 for an encoder
    tokens_per_s: float  # vision tokens/s (encoder) or output tokens/s (others); the seed that measurement replaces
    store_bytes: int = 0  # what an encoder's store of embeddings holds; 0 where that is no limit
    host: WorkerId = NOBODY  # the encoder whose card a text engine shares: then it is a thief
    prefill_tokens: int = 0  # of prompts, that a step takes beside running streams; 0 where nobody has bounded them
    protocol: int = PROTOCOL_VERSION
    fallback: str = ""  # why it is not where its pool wants it; nothing if it is


class Heartbeat(Message, frozen=True):
    """The worker and its engine live; sent every `heartbeat_s`, missed for `heartbeat_timeout_s` means Lost."""

    worker: WorkerId
    registrations: int = 0  # that it has sent so far


class Lost(Message, frozen=True):
    """The engine died; its worker restarts it and will register again. Or its node is to go: then it lives for as long
    as it has something to do, and whatever it still answers is reported as ever."""

    worker: WorkerId
    reason: str


class Evicted(Message, frozen=True):
    """An encoder no longer holds these embeddings (vLLM's keys, as in `Embedding.key`)."""

    worker: WorkerId
    keys: tuple[str, ...]


# -- scheduler to worker -------------------------------------------------------------------------------------------


class Unknown(Message, frozen=True):
    """The scheduler does not know this worker (it restarted, or gave the worker up): register again.

    `registrations` is that of the Heartbeat it answers: if the worker has registered since, this is out of date.
    """

    worker: WorkerId
    registrations: int = 0


class Pause(Message, frozen=True):
    """An image has come to the card of this thief: hold its engine at the next token, and keep the KV cache."""

    worker: WorkerId


class Resume(Message, frozen=True):
    """No image is left: go on."""

    worker: WorkerId


FromGateway = (
    Submit
    | EncodeDone
    | EncodeFailed
    | DecodeBegun
    | DecodeDone
    | DecodeFailed
    | Returned
    | Cancel
    | AskStatus
    | AskReasons
)
Presence = Join | Alive
"""Of a gateway, for whoever carries messages: the core hears of the requests only."""
ToGateway = Encode | Decode | Return | Reject | Status | Reasons
FromWorker = Register | Heartbeat | Lost | Evicted
ToWorker = Unknown | Pause | Resume
AnyMessage = FromGateway | Presence | ToGateway | Forgotten | FromWorker | ToWorker

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: AnyMessage) -> bytes:
    """One message as msgpack bytes."""
    return _encoder.encode(message)


def decode(frame: bytes | memoryview) -> AnyMessage:
    """The message in `frame`.

    Raises:
        msgspec.DecodeError: not msgpack, or no message of this protocol (`msgspec.ValidationError`).
    """
    message: AnyMessage = _decoder.decode(frame)
    return message
