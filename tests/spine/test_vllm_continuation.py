"""What continuing an answer knows of vLLM, against the vLLM that is installed. No engine starts."""

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from text_engine import CHAT, COMPLETIONS, CONTEXT, PROMPT

from chiasm.continuable import CARRIED, SPENT, STATEFUL, obstacle
from chiasm.continuation import COMPLETIONS_TOKENS, Transcript
from chiasm.models.tiny import build_tiny_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

HEAD = {"id": "x", "created": 1, "model": "demo"}


def fields(model: Any) -> set[str]:
    return set(model.model_fields)


def test_every_field_of_a_request_is_known_for_what_it_needs() -> None:
    """A new vLLM's new field fails here: put it into one of the tables. Until then requests that set it stay put."""
    from vllm.entrypoints.generate.base.protocol import StreamOptions
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    known = CARRIED | SPENT | STATEFUL.keys()
    assert fields(ChatCompletionRequest) | fields(CompletionRequest) == known
    assert fields(CompletionRequest) >= CARRIED  # for the rest is asked for there
    assert fields(StreamOptions) == {"include_usage", "continuous_usage_stats"}
    assert CompletionRequest.model_fields["max_tokens"].default == COMPLETIONS_TOKENS


def test_whoever_sets_a_field_to_its_default_may_still_move() -> None:
    from pydantic_core import PydanticUndefined
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    for path, model in ((CHAT, ChatCompletionRequest), (COMPLETIONS, CompletionRequest)):
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            if default is not PydanticUndefined:
                assert obstacle({name: default}, path) is None, name


def test_events_are_rewritten_into_what_vllm_writes() -> None:
    from vllm.entrypoints.generate.base.protocol import DeltaMessage
    from vllm.entrypoints.openai.chat_completion.protocol import (
        ChatCompletionResponseStreamChoice,
        ChatCompletionStreamResponse,
    )
    from vllm.entrypoints.openai.completion.protocol import CompletionResponseStreamChoice, CompletionStreamResponse

    def event(chunk: Any) -> bytes:
        return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n".encode()

    def opening(prompt: list[int] | None) -> bytes:
        role = DeltaMessage(role="assistant", content="")
        choice = ChatCompletionResponseStreamChoice(index=0, delta=role, logprobs=None, finish_reason=None)
        return event(
            ChatCompletionStreamResponse(
                **HEAD,
                object="chat.completion.chunk",
                choices=[choice],
                prompt_token_ids=prompt,
                prompt_text=None,
            )
        )

    def of_chat(text: str, tokens: list[int] | None, last: bool = False) -> bytes:
        ending = {"finish_reason": "stop", "stop_reason": None} if last else {"finish_reason": None}
        choice = ChatCompletionResponseStreamChoice(
            index=0, delta=DeltaMessage(content=text), logprobs=None, token_ids=tokens, **ending
        )
        return event(ChatCompletionStreamResponse(**HEAD, object="chat.completion.chunk", choices=[choice]))

    def of_completion(text: str, tokens: list[int], last: bool = False) -> bytes:
        choice = CompletionResponseStreamChoice(
            index=0,
            text=text,
            logprobs=None,
            finish_reason="stop" if last else None,
            stop_reason=None,
            prompt_token_ids=[*PROMPT, 7],
            token_ids=tokens,
        )
        head = {**HEAD, "id": "y", "created": 2}
        return event(CompletionStreamResponse(**head, object="text_completion", choices=[choice]))

    transcript = Transcript(CHAT, {"model": "demo", "messages": []}, CONTEXT)
    assert transcript.take(opening(PROMPT)) == opening(None)
    assert transcript.take(of_chat("é\u2028\x7f\x01", [7])) == of_chat("é\u2028\x7f\x01", None)
    transcript.request()
    assert transcript.take(of_completion("b", [8])) == of_chat("b", None)
    assert transcript.take(of_completion("", [9], last=True)) == of_chat("", None, last=True)


def after_one_token(path: str, body: dict[str, Any], longest: int | None = None) -> Transcript:
    """Of an answer to the prompt [1, 2]."""
    transcript = Transcript(path, body, CONTEXT, longest)
    transcript.take(
        b'data: {"id":"x","object":"o","created":1,"model":"demo","prompt_token_ids":[1,2],"choices":'
        b'[{"index":0,"text":"a","token_ids":[3]}]}\n\n'
    )
    return transcript


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_what_the_rest_is_asked_for_with_is_a_request_of_vllms(path: str) -> None:
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest

    body = {
        "model": "demo",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_k": 3,
        "min_tokens": 1,
        "logit_bias": {"5": 1.0},
        "stop_token_ids": [4],
        "cache_salt": "salt",
    }
    _, rest = after_one_token(path, body).request()
    request = CompletionRequest.model_validate(rest)
    assert request.prompt == [1, 2, 3]
    assert not request.model_extra


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_tiny_model(tmp_path_factory.mktemp("model"))
    (folder / "generation_config.json").write_text('{"max_new_tokens": 100}')
    return folder


OVERRIDE = '--override-generation-config={"max_new_tokens": 50}'


@pytest.mark.parametrize(
    ("named", "longest"),
    [
        ([], None),
        (["--generation-config=vllm"], None),
        ([OVERRIDE], 50),
        (["--generation-config=vllm", OVERRIDE], 50),
        (["--generation-config={folder}"], 70),
        (["--generation-config={folder}", OVERRIDE], 50),
        (['--override-generation-config={"top_k": 3}'], None),
    ],
)
def test_an_answer_that_moves_is_as_long_as_vllm_lets_it_be(
    model: Path, tmp_path: Path, named: list[str], longest: int | None
) -> None:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
    from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from chiasm.preflight import inspect

    (tmp_path / "generation_config.json").write_text('{"max_new_tokens": 70}')
    arguments = [f"--model={model}", "--max-model-len=512"]
    arguments += [argument.replace("{folder}", str(tmp_path)) for argument in named]
    report = inspect(arguments)
    assert report["longest_answer"] == longest
    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    models = MagicMock(model_config=EngineArgs.from_cli_args(parsed).create_model_config())
    server = OpenAIServingCompletion(models, models, online_renderer=models, request_logger=None)
    defaults = server.default_sampling_params
    for asked in (None, 20, 200):
        body = {"model": "demo", "max_tokens": asked}
        if obstacle(body, CHAT, defaults=report["sampling"]) is None:
            _, rest = after_one_token(CHAT, body, report["longest_answer"]).request()
            whole = get_max_tokens(CONTEXT, asked, 2, defaults, server.override_max_tokens)
            assert 1 + rest["max_tokens"] == whole
