"""A client's body, judged as far as it takes to route it and to spare an engine what it would refuse: everything else
passes untouched. Its images are only found here; `items` reads them. Runs in a worker thread. Imports no HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chiasm.api_paths import CHAT_PATH, COMPLETIONS_PATH
from chiasm.config import GatewayConfig
from chiasm.continuable import obstacle
from chiasm.continuation import COMPLETIONS_TOKENS
from chiasm.gateway.errors import ApiError, invalid, prompt_too_long
from chiasm.gateway.fields import check_fields
from chiasm.gateway.messages import ImagePlace, read_messages
from chiasm.image_tokens import ImageSizes
from chiasm.nouns import Item, ItemUuid

OPTIONS = ("mm_processor_kwargs", "media_io_kwargs")
"""Fields that change what an image's embedding is; both engines must get them alike."""

_RESERVED = {"ec_transfer_params", "kv_transfer_params"}
_MAX_DEPTH = 128
_TEXT_OVERHEAD_TOKENS = 16


@dataclass(frozen=True)
class ServingFacts:
    """What this cluster serves."""

    model: str  # the name in the API, and the one that every engine serves the model under
    model_revision: str
    pixels_per_token: int
    image_tokens: tuple[int, int]  # the fewest and the most that one image can have
    max_model_len: int  # tokens of prompt and answer together
    created: int  # Unix time
    image_pixels: tuple[int, int] | None = None  # the least and the most that Qwen's processor resizes an image to
    sampling: Mapping[str, Any] = field(default_factory=dict)  # what engines assume where a request says nothing
    longest_answer: int | None = None  # tokens, whatever a request asks for; None: as long as the context
    parsed_chats: bool = False  # engines tell reasoning, or calls of tools, from the text of a chat's answer

    @property
    def image_sizes(self) -> ImageSizes:
        """All that is known of how many tokens an image will have."""
        return ImageSizes(self.pixels_per_token, self.image_tokens, self.image_pixels)

    def estimate_image(self, width: int, height: int) -> int:
        """About how many tokens an image of this size (pixels) will have; exact where it can be, see `fewest_of`."""
        return self.image_sizes.estimate(width, height)

    def fewest_of(self, width: int, height: int) -> int:
        """The tokens that an image of this size (pixels) is certain to have, unless a client sets processor options."""
        return self.image_tokens[0] if self.image_pixels is None else self.estimate_image(width, height)


@dataclass(frozen=True)
class MediaPart:
    """One image of a prompt: `messages[message].content[part]`."""

    message: int
    part: int
    uuid: ItemUuid
    url: str  # a data URL, also where the client named a web address
    tokens: int


@dataclass(frozen=True)
class ParsedRequest:
    """A request that may be submitted. `body` is the client's, with the model's name set."""

    path: str
    body: dict[str, Any]
    stream: bool
    text_tokens: int
    output_tokens: int
    max_model_len: int
    longest_answer: int | None = None
    media: tuple[MediaPart, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    plain: bool = False  # nothing but an image keeps its answer from going on on another engine

    @property
    def items(self) -> tuple[Item, ...]:
        """The media as the scheduler sees it, in prompt order."""
        return tuple(Item(part.uuid, "image", part.tokens) for part in self.media)

    @property
    def may_move(self) -> bool:
        """Could its answer go on on another engine, should it have to?"""
        return self.plain and not self.media


@dataclass(frozen=True)
class Draft:
    """A request whose images have been found and not yet read."""

    request: ParsedRequest
    images: tuple[ImagePlace, ...] = ()


def parse_chat(raw: bytes, facts: ServingFacts, config: GatewayConfig) -> Draft:
    """The body of a `/v1/chat/completions` request.

    Raises:
        ApiError: 400 or 404, with what to change.
    """
    body = _load(raw, facts)
    options = {name: body[name] for name in OPTIONS if body.get(name)}
    for name in options:
        if not config.allow_processor_options:
            raise invalid(f"This server does not let clients set {name}. Leave it out.", name)
    contents = read_messages(body.get("messages"), config.max_items)
    text_bytes = contents.text_bytes
    if body.get("tools"):
        text_bytes += len(msgspec.json.encode(body["tools"]))
    limit = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    request = ParsedRequest(
        path=CHAT_PATH,
        body=body,
        stream=bool(body.get("stream")),
        text_tokens=text_bytes // 3 + _TEXT_OVERHEAD_TOKENS,
        output_tokens=_output_tokens(body, limit, 1, config.default_output_tokens, facts),
        max_model_len=facts.max_model_len,
        longest_answer=facts.longest_answer,
        options=options,
        plain=obstacle(body, CHAT_PATH, facts.parsed_chats, facts.sampling) is None,
    )
    return Draft(request, contents.images)


def unknown_model(asked: str, facts: ServingFacts) -> ApiError:
    """What to say of a model that is not ours."""
    return ApiError(
        404,
        f"The model {asked[:200]!r} is not served here. Use {facts.model!r}; GET /v1/models lists it.",
        code="model_not_found",
        param="model",
    )


def parse_completion(raw: bytes, facts: ServingFacts, config: GatewayConfig) -> Draft:
    """The body of a `/v1/completions` request: text or token ids, no media.

    Raises:
        ApiError: 400 or 404, with what to change.
    """
    body = _load(raw, facts)
    prompts = _prompts(body.get("prompt"))
    counted = max((len(prompt) for prompt in prompts if isinstance(prompt, list)), default=0)
    if counted >= facts.max_model_len:
        raise prompt_too_long(f"The prompt has {counted} tokens", facts.max_model_len)
    estimates = (len(prompt) if isinstance(prompt, list) else len(prompt.encode()) // 3 for prompt in prompts)
    request = ParsedRequest(
        path=COMPLETIONS_PATH,
        body=body,
        stream=bool(body.get("stream")),
        text_tokens=sum(estimates) + _TEXT_OVERHEAD_TOKENS,
        output_tokens=_output_tokens(body, "max_tokens", 0, COMPLETIONS_TOKENS, facts) * len(prompts),
        max_model_len=facts.max_model_len,
        longest_answer=facts.longest_answer,
        plain=obstacle(body, COMPLETIONS_PATH, defaults=facts.sampling) is None,
    )
    return Draft(request)


def _load(raw: bytes, facts: ServingFacts) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The body is not valid JSON: {error}.") from error
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.")
    _refuse_reserved(body)
    check_fields(body)
    if (model := body.get("model")) not in (None, facts.model):
        raise unknown_model(model, facts)
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


def _output_tokens(body: dict[str, Any], name: str, least: int, default: int, facts: ServingFacts) -> int:
    asked = body.get(name)
    context = f"this model's context is {facts.max_model_len} tokens, of prompt and answer together"
    if asked is not None and not least <= asked <= facts.max_model_len:
        raise invalid(f"{name} must be between {least} and {facts.max_model_len}: {context}.", name)
    longest = facts.max_model_len if facts.longest_answer is None else facts.longest_answer
    return min(default if asked is None else int(asked), longest, facts.max_model_len) * (body.get("n") or 1)


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
