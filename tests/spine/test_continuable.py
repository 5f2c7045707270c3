"""Which requests could be continued on another engine, field by field."""

from typing import Any

import pytest

from chiasm.continuable import CARRIED, SPENT, STATEFUL, obstacle, parses_chats

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BOTH = pytest.mark.parametrize("path", [CHAT, COMPLETIONS])

MAY = [
    {},
    {"temperature": 0},
    {"temperature": 1.0, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1},
    {"logit_bias": {"5": 3}, "allowed_token_ids": [1, 2], "stop_token_ids": [7]},
    {"min_tokens": 3, "max_tokens": 9, "ignore_eos": True, "skip_special_tokens": False},
    {"n": 1, "seed": None, "stop": None, "logprobs": None, "response_format": None, "tools": None},
    {"presence_penalty": 0, "frequency_penalty": 0.0, "stop": [], "bad_words": [], "echo": False},
    {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": False}},
    {"response_format": {"type": "text"}},
    {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
    {"return_token_ids": True, "user": "u", "priority": 1, "cache_salt": "s", "chat_template_kwargs": {"a": 1}},
]
MAY_NOT = [
    {"seed": 0},
    {"n": 2},
    {"best_of": 2},
    {"presence_penalty": 0.1},
    {"frequency_penalty": -0.1},
    {"logprobs": True},
    {"top_logprobs": 1},
    {"prompt_logprobs": 0},
    {"stop": "x"},
    {"stop": ["x"]},
    {"response_format": {"type": "json_object"}},
    {"structured_outputs": {"choice": ["a", "b"]}},
    {"guided_json": {}},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
    {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
    {"tool_choice": "required"},
    {"reasoning_effort": "high"},
    {"echo": True},
    {"suffix": "end"},
    {"use_beam_search": True},
    {"bad_words": ["x"]},
    {"vllm_xargs": {"a": 1}},
    {"logits_processors": ["p"]},
    {"thinking_token_budget": 5},
    {"repetition_detection": {"max_pattern_size": 3}},
    {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"stream_options": {"of tomorrow": True}},
    {"of tomorrow": None},
]


@BOTH
@pytest.mark.parametrize("body", MAY, ids=str)
def test_what_needs_no_more_than_the_tokens_so_far_could_go_on_elsewhere(path: str, body: dict[str, Any]) -> None:
    assert obstacle(body, path) is None


@BOTH
@pytest.mark.parametrize("body", MAY_NOT, ids=str)
def test_what_needs_more_could_not_and_is_named(path: str, body: dict[str, Any]) -> None:
    reason = obstacle({"temperature": 0} | body, path)
    assert reason is not None
    assert reason.split(":")[0] in body


def test_a_number_of_logprobs_is_asked_for_by_0_in_completions() -> None:
    assert obstacle({"logprobs": False}, CHAT) is None
    assert obstacle({"logprobs": 0}, COMPLETIONS) is not None


@pytest.mark.parametrize("prompt", ["one", ["one"], [1, 2, 3], [[1, 2, 3]]])
def test_one_prompt_is_one_answer(prompt: Any) -> None:
    assert obstacle({"prompt": prompt}, COMPLETIONS) is None


@pytest.mark.parametrize("prompt", [["one", "two"], [[1], [2]]])
def test_several_prompts_share_a_stream(prompt: Any) -> None:
    assert obstacle({"prompt": prompt}, COMPLETIONS) is not None


@pytest.mark.parametrize(
    ("arguments", "parses"),
    [
        ([], False),
        (["--max-model-len=4096", "--dtype", "float32"], False),
        (["--reasoning-parser", "qwen3"], True),
        (["--reasoning_parser=qwen3"], True),
        (["--enable-auto-tool-choice", "--tool-call-parser=hermes"], True),
        (["--tool-call=hermes", "--enable-auto"], True),
        (["--structured_outputs_config.reasoning_parser=qwen3"], True),
        (["--structured-outputs", '{"reasoning_parser": "qwen3"}'], True),
    ],
)
def test_where_engines_parse_what_they_say_in_chats_chats_stay(arguments: list[str], parses: bool) -> None:
    assert parses_chats(arguments) is parses
    assert (obstacle({}, CHAT, parses_chats(arguments)) is None) is not parses
    assert obstacle({}, COMPLETIONS, parses_chats(arguments)) is None


@pytest.mark.parametrize(
    ("body", "defaults", "stays"),
    [
        ({}, {"temperature": 0.1, "repetition_penalty": 1.05, "top_k": 1}, False),
        ({}, {"presence_penalty": 1.5}, True),
        ({"presence_penalty": None}, {"presence_penalty": 1.5}, True),
        ({"presence_penalty": 0}, {"presence_penalty": 1.5}, False),
        ({}, {"max_tokens": 100}, True),
        ({"max_tokens": 50}, {"max_tokens": 100}, False),
        ({"max_completion_tokens": 50}, {"max_tokens": 100}, False),
    ],
)
def test_what_the_model_assumes_counts_where_the_request_says_nothing(
    body: dict[str, Any], defaults: dict[str, Any], stays: bool
) -> None:
    assert (obstacle(body, CHAT, defaults=defaults) is not None) is stays


def test_the_default_length_of_completions_is_not_the_models() -> None:
    assert obstacle({}, COMPLETIONS, defaults={"max_tokens": 100}) is None


def test_no_field_is_in_two_tables() -> None:
    assert len(CARRIED | SPENT | STATEFUL.keys()) == len(CARRIED) + len(SPENT) + len(STATEFUL)
