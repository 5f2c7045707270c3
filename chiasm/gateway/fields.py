"""The types and ranges of the fields that clients use: what engines would refuse anyway is refused before an image has
been encoded for it. Fields that are not listed here pass, and are the engine's to judge.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from chiasm.gateway.errors import invalid

MAX_CHOICES = 128
_Penalty = Annotated[float, Meta(ge=-2, le=2)]
_Count = Annotated[int, Meta(ge=0)]


class _StreamOptions(Struct):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Fields(Struct):
    """Of both chats and completions; the ranges are vLLM's."""

    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    min_tokens: _Count | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    logprobs: bool | int | None = None  # a count in completions
    top_logprobs: Annotated[int, Meta(ge=-1)] | None = None
    logit_bias: dict[str, float] | None = None
    ignore_eos: bool | None = None
    user: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, Any] | None = None


def check_fields(body: dict[str, Any]) -> None:
    """Refuse a body one of whose known fields has the wrong type, or a value out of range.

    Raises:
        ApiError: 400; it names the field, and what was expected of it.
    """
    try:
        msgspec.convert(body, _Fields)
    except msgspec.ValidationError as error:
        expected, _, place = str(error).rpartition(" - at `$.")
        field = place.rstrip("`")
        raise invalid(f"{field} does not fit: {expected}. Correct it, or leave it out.", field) from error
    if body.get("stream_options") is not None and not body.get("stream"):
        raise invalid("stream_options is for streams. Set stream to true, or leave it out.", "stream_options")
