"""Which answers could go on on another engine exactly, by the request's fields. How they do is `chiasm.continuation`.

What has been generated is a prompt like any other, so an engine that prefills the client's prompt and the tokens so far
goes on as the first one would have: with the same tokens where it always takes the likeliest, and with tokens of the
same distribution where it samples unseeded, for then the state of sampling is nothing but the tokens so far. Nothing
else that only the first engine knows may matter.

Every field of vLLM's two request models is in one of the three tables; one that is in none stands against it.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from chiasm.api_paths import CHAT_PATH, COMPLETIONS_PATH

CARRIED = frozenset(
    {
        "allowed_token_ids",
        "cache_salt",
        "ignore_eos",
        "include_stop_str_in_output",
        "logit_bias",
        "min_p",
        "priority",
        "repetition_penalty",  # it counts the prompt's tokens as well as the answer's
        "session_id",
        "skip_special_tokens",
        "stop_token_ids",
        "stream_interval",
        "stream_options",
        "temperature",
        "top_k",
        "top_p",
    }
)
"""Fields that the rest is asked for with too. None depends on where the prompt ends and the answer begins."""

SPENT = frozenset(
    {
        # They shape the prompt, whose tokens are known.
        "add_generation_prompt",
        "add_special_tokens",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "media_io_kwargs",
        "messages",
        "mm_processor_kwargs",
        "prompt",
        "tools",
        "truncate_prompt_tokens",
        "truncation_side",
        # The rest has its own.
        "max_completion_tokens",
        "max_tokens",
        "min_tokens",
        "model",
        "request_id",
        "return_token_ids",
        "stream",
        # They belong to the stream's first event, or to answers that are not continued.
        "length_penalty",
        "mm_payload",
        "parallel_tool_calls",
        "return_mm_kwargs",
        "return_prompt_text",
        "return_token_offsets",
        "return_tokens_as_token_ids",
        "user",
    }
)
"""Fields that are of no more use when the first token is there."""

_UNKNOWN_STATE = "its state in mid-answer is not known outside the engine"
_ANSWER_ONLY = "it looks at the answer's tokens apart from the prompt's"
_REPEATED = "what it tells of tokens that are generated again would be repeated"
_REASONING = "reasoning is told from the answer by what came before"
_SEVERAL = "several answers share the stream"
_TOOLS = "a call of a tool is not plain text"

STATEFUL: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "bad_words": (([],), _ANSWER_ONLY),
    "ec_transfer_params": ((), "embeddings belong to the prompt"),
    "echo": ((False,), "the prompt that is echoed would be a longer one"),
    "frequency_penalty": ((0,), _ANSWER_ONLY),
    "include_reasoning": ((True,), _REASONING),
    "kv_transfer_params": ((), "the KV cache is elsewhere"),
    "logprob_token_ids": (([],), _REPEATED),
    "logprobs": ((False,), _REPEATED),
    "n": ((1,), _SEVERAL),
    "presence_penalty": ((0,), _ANSWER_ONLY),
    "prompt_embeds": ((), "the prompt is not made of tokens"),
    "prompt_logprobs": ((), "the prompt grows"),
    "reasoning_effort": (("none",), _REASONING),
    "repetition_detection": ((), _ANSWER_ONLY),
    "response_format": (({"type": "text"},), _UNKNOWN_STATE),
    "routed_experts_prompt_start": ((0,), "the prompt grows"),
    "seed": ((), _UNKNOWN_STATE),
    "spaces_between_special_tokens": ((True,), "it depends on the token before"),
    "stop": (([],), "text that may begin a stop string is held back in the engine"),
    "structured_outputs": ((), _UNKNOWN_STATE),
    "suffix": ((), "a part of the prompt is behind the answer"),
    "thinking_token_budget": ((-1,), _ANSWER_ONLY),
    "tool_choice": (("none",), _TOOLS),
    "top_logprobs": ((0,), _REPEATED),
    "use_beam_search": ((False,), _SEVERAL),
    "vllm_xargs": (({},), "nothing is known of extensions"),
    "watermarking": ((False,), _UNKNOWN_STATE),
}
"""Fields that stand against it unless they are null or have one of these values; and why."""


_PARSERS = ("--reasoning-", "--stru", "--tool-c", "--enable-a")
"""How vLLM's flags begin that name a parser, as short as it takes them; one may be in `--structured-outputs-config`."""


def parses_chats(engine_args: Iterable[str]) -> bool:
    """Does a vLLM server with these arguments tell reasoning or calls of tools from the text of a chat's answer?"""
    return any(argument.replace("_", "-").startswith(_PARSERS) for argument in engine_args)


def obstacle(
    body: Mapping[str, Any], path: str, parsed_chats: bool = False, defaults: Mapping[str, Any] = MappingProxyType({})
) -> str | None:
    """Why the answer to a text request (a client's body for `path`) could not go on elsewhere; None if it could.

    `parsed_chats`: see `parses_chats`. A parser may hold back a part of a text, and nobody sees which.
    `defaults`: what the engines assume where the body says nothing, as the model's generation config has it.
    """
    if path == CHAT_PATH and parsed_chats:
        return "its engines parse the answers of chats, whose state in mid-answer is not known outside them"
    bounded = body.get("max_tokens") or body.get("max_completion_tokens") or path != CHAT_PATH
    if "max_tokens" in defaults and not bounded:
        return "max_tokens: it is left to the model's generation config, and would begin anew"
    assumed = {name: value for name, value in defaults.items() if name in STATEFUL and body.get(name) is None}
    for name, value in {**body, **assumed}.items():
        if (reason := _objection(name, value, body, path)) is not None:
            return f"{name}: {reason}"
    return None


def _objection(name: str, value: Any, body: Mapping[str, Any], path: str) -> str | None:
    unknown = "it is not known what that needs"
    if name in STATEFUL:
        harmless, reason = STATEFUL[name]
        # In completions `logprobs` is a number, of which 0, and so False, asks for those of the tokens themselves.
        off = value in harmless and not (name == "logprobs" and path == COMPLETIONS_PATH)
        return None if value is None or off else reason
    if name == "stream_options" and value is not None:
        if not isinstance(value, dict) or value.keys() - {"include_usage", "continuous_usage_stats"}:
            return unknown
        return _REPEATED if value.get("continuous_usage_stats") else None
    if name == "tools" and value and body.get("tool_choice") != "none":
        return _TOOLS
    if name == "prompt" and isinstance(value, list) and len(value) > 1 and not isinstance(value[0], int):
        return _SEVERAL
    return None if name in CARRIED or name in SPENT else unknown
