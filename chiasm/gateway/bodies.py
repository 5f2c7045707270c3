"""What the gateway asks of engines and what it understands of their answers: JSON in and out, no I/O."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from chiasm.gateway.parsing import ParsedRequest
from chiasm.nouns import Embedding, ItemUuid, Metadata, RequestId

_MAX_KEY = 256


class BadAnswer(ValueError):
    """An engine answered something that its protocol does not allow; the message names it."""


class TransferFailure(Struct, frozen=True):
    """One embedding that a decoder could not get."""

    key: str
    code: str
    detail: str = ""


class _Descriptor(Struct):
    metadata: Metadata
    endpoint: str
    shape: tuple[int, int]
    dtype: str


class _EncodeAnswer(Struct):
    ec_transfer_params: dict[str, _Descriptor] | None = None


class _TransfersAnswer(Struct):
    failed: list[TransferFailure]


class _TextAnswer(Struct):
    prompt: str


class _Usage(Struct):
    completion_tokens: int = 0


class _Completion(Struct):
    usage: _Usage | None = None


def encode_body(model: str, uuid: ItemUuid, url: str, options: Mapping[str, Any]) -> bytes:
    """The request that has an encoder encode one image."""
    part = {"type": "image_url", "image_url": {"url": url}, "uuid": uuid}
    messages = [{"role": "user", "content": [part]}]
    return msgspec.json.encode({"model": model, "messages": messages, "max_tokens": 1, **options})


def read_embedding(uuid: ItemUuid, answer: bytes) -> Embedding:
    """Where the encoded item lies, from an encoder's answer.

    Raises:
        BadAnswer: it does not describe exactly one embedding.
    """
    try:
        described = msgspec.json.decode(answer, type=_EncodeAnswer).ec_transfer_params
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the encoder's answer is ill-formed: {error}") from error
    if not described or len(described) != 1:
        raise BadAnswer(f"the encoder described {len(described or ())} embeddings instead of one")
    [(key, found)] = described.items()
    if not 0 < len(key) <= _MAX_KEY or min(found.shape) < 1 or not found.endpoint.startswith(("tcp://", "ipc://")):
        raise BadAnswer(f"the encoder described an impossible embedding: {key[:_MAX_KEY]!r} {found.shape}")
    return Embedding(uuid, key, "image", found.metadata, found.endpoint, found.shape, found.dtype)


def decode_body(parsed: ParsedRequest, request: RequestId, embeddings: Iterable[Embedding]) -> bytes:
    """The request for the engine that generates the answer.

    With `embeddings`, which must cover the request's media, each image becomes a reference to its own; without, the
    images stay where they are and are only named. Either way no web address is left for an engine to fetch.
    """
    by_uuid = {embedding.uuid: embedding for embedding in embeddings}
    body = dict(parsed.body)
    if parsed.media:
        messages = list(body["messages"])
        for place in parsed.media:
            message = dict(messages[place.message])
            message["content"] = parts = list(message["content"])
            if by_uuid:
                metadata = by_uuid[place.uuid].metadata
                parts[place.part] = {"type": "image_embeds", "image_embeds": metadata, "uuid": place.uuid}
            else:
                parts[place.part] = {"type": "image_url", "image_url": {"url": place.url}, "uuid": place.uuid}
            messages[place.message] = message
        body["messages"] = messages
    if by_uuid:
        items = {e.key: {"endpoint": e.endpoint, "shape": e.shape, "dtype": e.dtype} for e in by_uuid.values()}
        body["ec_transfer_params"] = {"request": request, "items": items}
    return msgspec.json.encode(body)


def text_body(model: str, tokens: list[int]) -> bytes:
    """The request for the text of some tokens."""
    return msgspec.json.encode({"model": model, "tokens": tokens})


def read_text(answer: bytes) -> str:
    """The text of tokens, from an engine's answer.

    Raises:
        BadAnswer: ill-formed.
    """
    try:
        return msgspec.json.decode(answer, type=_TextAnswer).prompt
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the engine's answer for the text of tokens is ill-formed: {error}") from error


def read_transfers(answer: bytes) -> list[TransferFailure]:
    """The embeddings that a decoder could not get for one request.

    Raises:
        BadAnswer: ill-formed.
    """
    try:
        return msgspec.json.decode(answer, type=_TransfersAnswer).failed
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadAnswer(f"the decoder's report of its transfers is ill-formed: {error}") from error


def completion_tokens(answer: bytes) -> int:
    """Tokens that a complete answer says it has; 0 if it does not say."""
    try:
        usage = msgspec.json.decode(answer, type=_Completion).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
    return usage.completion_tokens if usage else 0


def error_message(answer: bytes) -> str:
    """What an engine's error says, in its own words as far as it has any."""
    try:
        error = msgspec.json.decode(answer)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, IndexError):
        return answer[:200].decode(errors="replace")
