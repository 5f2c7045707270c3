"""The proxy that vLLM's encoder disaggregation needs, in a process of its own, ours.

`python -m bench.topologies.epd_proxy ENCODER_URL DECODER_URL` prints where it serves. What it does is what vLLM's own
example does for one encoder and one server that prefills and decodes (examples/disaggregated/disaggregated_encoder of
vLLM 0.32: `disagg_epd_proxy.py`, `disagg_1e1pd_example.sh`):

* all images of a request go to the encoder in one request, without the text, each under a key made of its content;
* when the encoder has answered, the request goes on with a reference in each image's place: its key, and what the
  encoder says of its size. The embedding itself is fetched by the connector, by that key;
* if the decoder answers 500 before anything was streamed, both are asked once more: an embedding may have been lost.

In one thing it differs. There an image of which the encoder tells no size stays in the request, and the decoder encodes
it again: an arrangement that only seems to be split, and that nobody would notice. Here such a request fails.

How often both had to be asked again is told at `STATUS_PATH`.
"""

import argparse
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import ClientError, ClientSession, web

from bench.topologies import front
from chiasm.api_paths import CHAT_PATH
from chiasm.gateway.errors import ApiError, invalid

RETRIES = 1
STATUS_PATH = "/proxy/status"
OPTIONS = ("mm_processor_kwargs", "media_io_kwargs", "priority")  # of a request that the encoder must know, too

Part = dict[str, Any]


class Reported(msgspec.Struct):
    """What the encoder says of one of its embeddings, by the key that it has there."""

    item_indices: list[int] = []
    metadata: dict[str, Any] = {}


class Status(msgspec.Struct):
    """What the proxy tells of itself."""

    images: int = 0  # for which a reference went to the decoder
    retries: int = 0


class _Encoded(msgspec.Struct):
    ec_transfer_params: dict[str, Reported] | None = None


def images_of(chat: Mapping[str, Any]) -> list[Part]:
    """The parts of a chat request that are images, in their order."""
    return [part for message in chat.get("messages", ()) for part in _parts(message) if _is_image(part)]


def _parts(message: Any) -> Sequence[Any]:
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, list) else ()


def _is_image(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "image_url"


def keyed(image: Part) -> Part:
    """The image under a key made of its content, so that equal ones are encoded once."""
    return {**image, "uuid": hashlib.sha256(msgspec.json.encode(image["image_url"])).hexdigest()}


def encode_request(chat: Mapping[str, Any], images: Sequence[Part]) -> dict[str, Any]:
    """What the encoder is asked. It samples nothing, so no length is set."""
    options = {name: chat[name] for name in OPTIONS if name in chat}
    return {"model": chat.get("model"), "messages": [{"role": "user", "content": list(images)}], **options}


def references(images: Sequence[Part], reported: Mapping[str, Reported]) -> list[Part]:
    """What stands in each image's place for the decoder.

    Raises:
        ApiError: the encoder tells no size of one.
    """
    by_index = {index: told for told in reported.values() for index in told.item_indices}
    if silent := [index for index in range(len(images)) if index not in by_index or not by_index[index].metadata]:
        message = f"the encoder tells no size of image {silent[0]}, so the decoder would have to encode it again"
        raise ApiError(502, message, kind="server_error", code="encode_failed")
    return [_reference(image, by_index[index]) for index, image in enumerate(images)]


def _reference(image: Part, told: Reported) -> Part:
    # For one item the encoder reports a row of a batch, [[1, 16, 16]], and the decoder wants the row itself.
    sizes = {name: _flat(value) for name, value in told.metadata.items()}
    return {"type": "image_embeds", "image_embeds": sizes, "uuid": image["uuid"]}


def _flat(values: Any) -> list[Any]:
    return [one for value in values for one in (value if isinstance(value, list) else [value])]


def with_references(chat: Mapping[str, Any], found: Sequence[Part]) -> dict[str, Any]:
    """The chat request with these in the places of its images, in their order."""
    left = iter(found)
    return {**chat, "messages": [_filled(message, left) for message in chat["messages"]]}


def _filled(message: Any, left: Iterator[Part]) -> Any:
    if not (parts := _parts(message)):
        return message
    return {**message, "content": [next(left) if _is_image(part) else part for part in parts]}


class Proxy:
    """Answers chat requests by way of the encoder, and everything else with the decoder's answer."""

    def __init__(self, encoder: str, decoder: str) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._status = Status()

    async def __call__(self, request: web.Request, body: bytes, session: ClientSession) -> web.StreamResponse:
        """See `front.Handler`."""
        if request.path == STATUS_PATH:
            return web.json_response(body=msgspec.json.encode(self._status))
        chat = _chat(body) if request.path == CHAT_PATH else {}
        images = [keyed(image) for image in images_of(chat)]
        for attempt in range(RETRIES + 1):
            if images:
                told = await self._encode(request, msgspec.json.encode(encode_request(chat, images)), session)
                body = msgspec.json.encode(with_references(chat, references(images, told)))
                self._status.images += len(images)
            async with front.asking(request, body, session, self._decoder) as answer:
                if answer.status != 500 or not images or attempt == RETRIES:
                    return await front.relay(request, answer, self._decoder)
                self._status.retries += 1
        raise AssertionError("the last attempt returns")

    async def _encode(self, request: web.Request, body: bytes, session: ClientSession) -> dict[str, Reported]:
        async with front.asking(request, body, session, self._encoder) as answer:
            try:
                content = await answer.read()
            except (ClientError, TimeoutError) as error:
                raise front.engine_failed(self._encoder, error) from error
        if answer.status != 200:
            said = content[:500].decode(errors="replace")
            raise ApiError(answer.status, f"the encoder answered {answer.status}: {said}", code="encode_failed")
        try:
            return msgspec.json.decode(content, type=_Encoded).ec_transfer_params or {}
        except msgspec.DecodeError as error:
            message = f"the encoder's answer is ill-formed: {error}"
            raise ApiError(502, message, kind="server_error", code="encode_failed") from error


def _chat(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"The body is not a JSON object: {error}") from error


def main() -> None:
    """Serve until the standard input closes."""
    parser = argparse.ArgumentParser(description="Drives vLLM's encoder disaggregation.")
    parser.add_argument("encoder", help="base URL of the server that encodes")
    parser.add_argument("decoder", help="base URL of the server that prefills and decodes")
    arguments = parser.parse_args()
    front.run(Proxy(arguments.encoder, arguments.decoder))


if __name__ == "__main__":
    main()
