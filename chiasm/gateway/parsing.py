"""A client's body, judged just enough to route it: everything else is the engine's to accept or refuse, and passes
untouched. Runs in a worker thread. Imports no HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chiasm.config import GatewayConfig
from chiasm.gateway.errors import ApiError, invalid
from chiasm.gateway.identity import item_uuid
from chiasm.gateway.media import read_image
from chiasm.nouns import Item, ItemUuid

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"

OPTIONS = ("mm_processor_kwargs", "media_io_kwargs")
"""Fields that change what an image's embedding is; both engines must get them alike."""

_RESERVED = {"ec_transfer_params", "kv_transfer_params"}
_MAX_DEPTH = 128
_COMPLETIONS_DEFAULT_TOKENS = 16  # OpenAI's default on this path, and the engines'
_TEXT_OVERHEAD_TOKENS = 16


@dataclass(frozen=True)
class ServingFacts:
    """What this cluster serves."""

    model: str  # the name in the API, and the one that every engine serves the model under
    model_revision: str
    pixels_per_token: int
    max_model_len: int  # tokens of prompt and answer together
    created: int  # Unix time


@dataclass(frozen=True)
class MediaPart:
    """One image of a prompt: `messages[message].content[part]`."""

    message: int
    part: int
    uuid: ItemUuid
    url: str
    tokens: int


@dataclass(frozen=True)
class ParsedRequest:
    """A request that may be submitted. `body` is the client's, with the model's name set."""

    path: str
    body: dict[str, Any]
    stream: bool
    text_tokens: int
    output_tokens: int
    media: tuple[MediaPart, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def items(self) -> tuple[Item, ...]:
        """The media as the scheduler sees it, in prompt order."""
        return tuple(Item(part.uuid, "image", part.tokens) for part in self.media)


def parse_chat(raw: bytes, facts: ServingFacts, config: GatewayConfig, tenant: str) -> ParsedRequest:
    """The body of a `/v1/chat/completions` request. `tenant` tells whose cache its media may use.

    Raises:
        ApiError: 400 or 404, with what to change.
    """
    body = _load(raw, facts)
    options = {name: body[name] for name in OPTIONS if body.get(name)}
    for name, value in options.items():
        if not isinstance(value, dict):
            raise invalid(f"{name} must be an object.", name)
        if not config.allow_processor_options:
            raise invalid(f"This server does not let clients set {name}. Leave it out.", name)
    text_bytes, images = _walk_messages(body.get("messages"), config)
    if body.get("tools"):
        text_bytes += len(msgspec.json.encode(body["tools"]))
    limit = body.get("max_completion_tokens")
    return ParsedRequest(
        path=CHAT_PATH,
        body=body,
        stream=_stream(body),
        text_tokens=text_bytes // 3 + _TEXT_OVERHEAD_TOKENS,
        output_tokens=_output_tokens(
            body, "max_tokens" if limit is None else "max_completion_tokens", config.default_output_tokens, facts
        ),
        media=_identify(images, options, facts, config, tenant),
        options=options,
    )


def unknown_model(asked: str, facts: ServingFacts) -> ApiError:
    """What to say of a model that is not ours."""
    return ApiError(
        404,
        f"The model {asked[:200]!r} is not served here. Use {facts.model!r}; GET /v1/models lists it.",
        code="model_not_found",
        param="model",
    )


def parse_completion(raw: bytes, facts: ServingFacts, config: GatewayConfig, _tenant: str) -> ParsedRequest:
    """The body of a `/v1/completions` request: text or token ids, no media.

    Raises:
        ApiError: 400 or 404, with what to change.
    """
    body = _load(raw, facts)
    prompts = _prompts(body.get("prompt"))
    estimates = (len(prompt) if isinstance(prompt, list) else len(prompt.encode()) // 3 for prompt in prompts)
    return ParsedRequest(
        path=COMPLETIONS_PATH,
        body=body,
        stream=_stream(body),
        text_tokens=sum(estimates) + _TEXT_OVERHEAD_TOKENS,
        output_tokens=_output_tokens(body, "max_tokens", _COMPLETIONS_DEFAULT_TOKENS, facts) * len(prompts),
    )


def _load(raw: bytes, facts: ServingFacts) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The body is not valid JSON: {error}.") from error
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.")
    _refuse_reserved(body)
    model = body.get("model")
    if model is not None and model != facts.model:
        raise unknown_model(str(model), facts)
    return body | {"model": facts.model}


def _refuse_reserved(body: dict[str, Any]) -> None:
    # Anywhere, not only at the top: engines merge some nested objects into the very place where these are read.
    if body.get("prompt_embeds") is not None:
        raise invalid("prompt_embeds is not accepted. Send the prompt as text or token ids.", "prompt_embeds")
    todo: list[tuple[Any, int]] = [(body, 0)]
    while todo:
        value, depth = todo.pop()
        if depth > _MAX_DEPTH:
            raise invalid(f"The body is nested deeper than {_MAX_DEPTH} levels. Flatten it.")
        if isinstance(value, dict):
            for name in _RESERVED & value.keys():
                raise invalid(f"{name} is set by the server alone. Remove it.", name)
            value = value.values()
        elif not isinstance(value, list):
            continue
        todo.extend((child, depth + 1) for child in value if isinstance(child, dict | list))


def _stream(body: dict[str, Any]) -> bool:
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise invalid("stream must be true or false.", "stream")
    return bool(stream)


def _output_tokens(body: dict[str, Any], name: str, default: int, facts: ServingFacts) -> int:
    tokens = _integer(body, name, 0, None)
    choices = _integer(body, "n", 1, 128)
    # No answer outgrows the model's context, whatever the client asks for.
    return min(default if tokens is None else tokens, facts.max_model_len) * (choices or 1)


def _integer(body: dict[str, Any], name: str, least: int, most: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"between {least} and {most}"
        raise invalid(f"{name} must be an integer, {span}.", name)
    return value


def _prompts(prompt: Any) -> list[str] | list[list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if _token_ids(prompt):
            return [prompt]
        if all(isinstance(each, str) for each in prompt) or all(_token_ids(each) for each in prompt):
            return prompt
    raise invalid("prompt must be a text, a list of token ids, or a list of either.", "prompt")


def _token_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int and token >= 0 for token in value)


_Found = tuple[int, int, str]  # message, part, data URL


def _walk_messages(messages: Any, config: GatewayConfig) -> tuple[int, list[_Found]]:
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a list of at least one message.", "messages")
    text_bytes = 0
    images: list[_Found] = []
    for m, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise invalid(f"messages[{m}] must be an object with a role.", "messages")
        content = message.get("content")
        if isinstance(content, str):
            text_bytes += len(content.encode())
        elif isinstance(content, list):
            for p, part in enumerate(content):
                text, url = _read_part(part, f"messages[{m}].content[{p}]")
                text_bytes += len(text.encode())
                if url is not None:
                    images.append((m, p, url))
        elif content is not None:
            raise invalid(f"messages[{m}].content must be a text or a list of parts.", "messages")
    if len(images) > config.max_items:
        raise invalid(f"The request has {len(images)} images; {config.max_items} are allowed. Send fewer.", "messages")
    return text_bytes, images


def _read_part(part: Any, param: str) -> tuple[str, str | None]:
    """A part's text, and its image's URL if it is one."""
    if isinstance(part, str):
        return part, None
    if not isinstance(part, dict):
        raise invalid(f"{param} must be an object with a type.", param)
    if "uuid" in part:
        raise invalid(f"{param}.uuid is set by the server alone. Remove it.", param)
    match part.get("type"):
        case "text":
            text = part.get("text")
            if not isinstance(text, str):
                raise invalid(f"{param}.text must be a text.", param)
            return text, None
        case "image_url":
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            if not isinstance(url, str):
                raise invalid(f"{param}.image_url.url must be a data URL.", param)
            return "", url
        case kind:
            raise invalid(f"{param} has type {str(kind)[:100]!r}. Send parts of type text or image_url.", param)


def _identify(
    images: list[_Found], options: Mapping[str, Any], facts: ServingFacts, config: GatewayConfig, tenant: str
) -> tuple[MediaPart, ...]:
    cache_scope = "shared" if config.cache_scope == "shared" else f"tenant {tenant}"
    known: dict[str, tuple[ItemUuid, int]] = {}  # an image repeated in one prompt is read once
    for m, p, url in images:
        if url not in known:
            image = read_image(url, config, f"messages[{m}].content[{p}].image_url")
            uuid = item_uuid(cache_scope, facts.model_revision, image.data, options)
            known[url] = (uuid, -(-image.width * image.height // facts.pixels_per_token))
    return tuple(MediaPart(m, p, known[url][0], url, known[url][1]) for m, p, url in images)
