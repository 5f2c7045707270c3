"""A vLLM server's streams without vLLM: pupil's tokenizer, vLLM's own way of decoding by and by, and its events."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

import chiasm.models

TOKENIZER = Tokenizer.from_file(str(Path(chiasm.models.__path__[0]) / "pupil" / "tokenizer.json"))
END = TOKENIZER.token_to_id("<|im_end|>")
PROMPT = TOKENIZER.encode("What is in this picture? ", add_special_tokens=False).ids
CONTEXT = 4096
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def tokens_of(text: str) -> list[int]:
    ids: list[int] = TOKENIZER.encode(text, add_special_tokens=False).ids
    return ids


def text_of(tokens: Sequence[int]) -> str:
    """What vLLM's `/detokenize` says."""
    text: str = TOKENIZER.decode(list(tokens), skip_special_tokens=False)
    return text


def streamed_text(prompt: Sequence[int], tokens: Sequence[int]) -> list[str]:
    """The text that vLLM makes of each of `tokens`; a character comes with its last part.

    Where the prompt itself ends in half of a character, its whole text comes with the other half.
    """
    stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
    return [stream.step(TOKENIZER, token) or "" for token in tokens]


class TextEngine:
    """Generates `answer` and then the end token, whatever of it is in the prompt already, as a greedy model would.

    Args:
        sizes: how many tokens come in each event; over and over.
        draw: instead, the next token of whatever prompt, as a sampling model would.
    """

    def __init__(
        self, answer: Sequence[int], sizes: Sequence[int] = (1,), draw: Callable[[], int] | None = None, name: str = "x"
    ) -> None:
        self._answer = [*answer, END]
        self._sizes = sizes
        self._draw = draw
        self._name = name
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.tokens: list[int] = []  # all that stand of the latest answer

    def stream(self, path: str, body: dict[str, Any]) -> bytes:
        """The whole stream for one request."""
        return b"".join(self.events(path, body))

    def events(self, path: str, body: dict[str, Any]) -> list[bytes]:
        """Its events one by one."""
        self.asked.append((path, body))
        prompt = body["prompt"] if path == COMPLETIONS and isinstance(body["prompt"], list) else PROMPT
        assert prompt[: len(PROMPT)] == PROMPT
        done = prompt[len(PROMPT) :]
        most = body.get("max_completion_tokens") or body.get("max_tokens") or 10_000
        most = min(most, CONTEXT - len(prompt))
        assert most > 0
        tokens = self._generate(done, most)
        self.tokens = done + tokens
        reason = "stop" if tokens[-1] == END else "length"
        texts = streamed_text(prompt, tokens)
        if reason == "stop":
            texts[-1] = ""  # vLLM leaves the token that stopped it undecoded
        return [self._sse(event) for event in self._events(path, body, prompt, tokens, texts, reason)] + [
            b"data: [DONE]\n\n"
        ]

    def _generate(self, done: list[int], most: int) -> list[int]:
        if self._draw is None:
            assert self._answer[: len(done)] == done, "the prompt is not what a greedy model has generated"
            return self._answer[len(done) :][:most]
        tokens: list[int] = []
        while len(tokens) < most and tokens[-1:] != [END]:
            tokens.append(self._draw())
        return tokens

    def _events(
        self, path: str, body: dict[str, Any], prompt: list[int], tokens: list[int], texts: list[str], reason: str
    ) -> Iterator[dict[str, Any]]:
        ids, chat = body.get("return_token_ids", False), path == CHAT
        kind = ("chatcmpl", "chat.completion.chunk") if chat else ("cmpl", "text_completion")
        head = {"id": f"{kind[0]}-{self._name}", "object": kind[1], "created": len(self.asked), "model": "demo"}
        if chat:
            role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
            yield {**head, "choices": [role], "prompt_token_ids": prompt if ids else None, "prompt_text": None}
        at, count = 0, 0
        while at < len(tokens):
            size = self._sizes[count % len(self._sizes)]
            part, text = tokens[at : at + size], "".join(texts[at : at + size])
            at += size
            last = reason if at >= len(tokens) else None
            choice: dict[str, Any] = {"index": 0}
            choice |= {"delta": {"content": text}} if chat else {"text": text}
            choice |= {"logprobs": None, "finish_reason": last}
            if not chat:
                first = prompt if ids and not count else None
                choice |= {"stop_reason": None, "prompt_token_ids": first}
            elif last:
                choice |= {"stop_reason": None}
            yield {**head, "choices": [choice | {"token_ids": part if ids else None}]}
            count += 1
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": len(prompt), "total_tokens": len(prompt) + len(tokens)}
            yield {**head, "choices": [], "usage": usage | {"completion_tokens": len(tokens)}}

    def _sse(self, event: dict[str, Any]) -> bytes:
        return f"data: {json.dumps(event, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def told(stream: bytes) -> dict[str, Any]:
    """What a client reads from a stream, whatever the number of its events."""
    *lines, done, nothing = stream.split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    events = [json.loads(line.removeprefix(b"data: ")) for line in lines]
    choices = [event["choices"][0] for event in events if event["choices"]]
    deltas = [choice.get("delta", {"content": choice.get("text")}) for choice in choices]
    return {
        "heads": {(event["id"], event["object"], event["created"], event["model"]) for event in events},
        "roles": [delta["role"] for delta in deltas if "role" in delta],
        "text": "".join(delta["content"] for delta in deltas),
        "reasons": [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
        "token ids": [token for choice in choices for token in choice.get("token_ids") or ()],
        "prompts": [event["prompt_token_ids"] for event in [*events, *choices] if event.get("prompt_token_ids")],
        "usage": [event["usage"] for event in events if "usage" in event],
    }
