"""Going on with an answer on another engine: how a stream that may have to move is asked for and read, and how its rest
is asked for. Used where a thief gives a request back and where its engine dies. No I/O.

The rest is a text completion whose prompt is that of the client and the tokens so far. For which requests that is
exact is told by `chiasm.continuable`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from chiasm.api_paths import CHAT_PATH, COMPLETIONS_PATH
from chiasm.continuable import CARRIED

COMPLETIONS_TOKENS = 16
"""The most that an answer of `/v1/completions` has if the request does not say: OpenAI's default, and the engines'."""

_DONE = b"[DONE]"
_UNFINISHED_CHARACTER = "\N{REPLACEMENT CHARACTER}"


class _Choice(Struct):
    index: int = 0
    text: str | None = None  # of completions
    delta: dict[str, Any] | None = None  # of chats
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None  # of completions


class _Chunk(Struct):
    choices: list[_Choice]
    prompt_token_ids: list[int] | None = None  # of chats
    usage: dict[str, Any] | None = None


class Transcript:
    """One answer, as far as it has come, over all the engines that generate it: what to post to each, what the client
    gets of their events, and what is left to say.

    Each engine is asked by `request`, and its events go through `take`; whatever that returns is to be delivered. An
    engine's text may lag behind its tokens, by a character that is not complete for example. `settled` tokens are those
    whose text has been delivered, and the next engine begins behind them. A client that wants ids gets theirs alone.

    Args:
        path, body: the client's request, to which there is no `obstacle`.
        context: tokens of prompt and answer together, at most.
        longest: tokens of the answer, at most, whatever the body asks for; None: as many as the context has room for.
    """

    def __init__(self, path: str, body: Mapping[str, Any], context: int, longest: int | None = None) -> None:
        self._chat = path == CHAT_PATH
        self._path = path
        self._body = body
        self._context = context
        self._longest = context if longest is None else longest
        self._head: dict[str, Any] = {}  # what every event of the stream begins with
        self._prompt: list[int] = []
        self._tokens: list[int] = []
        self._settled = 0
        self._loose = False  # has text been delivered of tokens that are not settled?
        self._named = 0  # tokens whose ids the client has been given, if it asked for them
        self._resumed = False  # is the present engine another than the first?
        self._finished = self._counted = False
        self.complete = False
        self.obstacle: str | None = None  # why it cannot go on elsewhere after what has come

    # -- what to ask an engine for -----------------------------------------------------------------------------------

    def request(self) -> tuple[str, dict[str, Any]]:
        """Path and body for the next engine: of the whole answer at first, then of what is not `settled`.

        `doubtful` must be empty by then.
        """
        if not self._head:
            return self._path, {**self._body, "return_token_ids": True}
        del self._tokens[self._settled :]
        self._resumed = True
        rest = {name: value for name, value in self._body.items() if name in CARRIED and value is not None}
        rest |= {"model": self._body["model"], "stream": True, "return_token_ids": True, "add_special_tokens": False}
        rest |= {"prompt": self._prompt + self._tokens, "max_tokens": self._most - self._settled}
        if self._body.get("min_tokens"):
            rest["min_tokens"] = max(0, self._body["min_tokens"] - self._settled)
        return COMPLETIONS_PATH, rest

    @property
    def _most(self) -> int:
        """Tokens that the answer may have."""
        names = ("max_completion_tokens", "max_tokens") if self._chat else ("max_tokens",)
        asked = next((self._body[name] for name in names if self._body.get(name) is not None), None)
        if asked is None:
            asked = self._context if self._chat else COMPLETIONS_TOKENS
        return min(int(asked), self._longest, self._context - len(self._prompt))

    @property
    def doubtful(self) -> list[int]:
        """Tokens of whose text some has been delivered, perhaps not all: they came several at once.

        To be told by `judge` what text they have, until there are none.
        """
        return self._tokens[self._settled :] if self._loose else []

    def judge(self, text: str) -> None:
        """`text` is that of the `doubtful` tokens. If it ends in half of a character, that has not been delivered."""
        if text.endswith(_UNFINISHED_CHARACTER):
            self._tokens.pop()
            self._loose = len(self._tokens) > self._settled
        else:
            self._settle()

    @property
    def tokens(self) -> int:
        """How many need not be generated again; while some are `doubtful`, a few more perhaps."""
        return len(self._tokens) if self._loose or self._finished else self._settled

    # -- what an engine answers --------------------------------------------------------------------------------------

    def take(self, events: bytes) -> bytes:
        """Whole events of the present engine, none of them an error, as the client gets them.

        An event that was cut off, as the last one may be, is none.
        """
        if not events.endswith((b"\n\n", b"\r\n\r\n")):
            return b""
        return b"".join(map(self._line, events.splitlines(keepends=True)))

    def _line(self, line: bytes) -> bytes:
        if not line.startswith(b"data:"):
            return line
        data = line[5:].strip()
        if data == _DONE:
            self.complete = True
            return line
        try:
            chunk = msgspec.json.decode(data)
            read = msgspec.convert(chunk, _Chunk)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.obstacle = "an event of it is not understood"
            return line
        for choice in read.choices:
            self._note(choice, read.prompt_token_ids or choice.prompt_token_ids)
        if read.usage is not None and not read.choices:
            self._counted = True
        rewritten = self._as_the_first(chunk, read) if self._resumed else self._as_asked(chunk)
        return _data(rewritten) + line[len(line.rstrip(b"\r\n")) :]

    def _note(self, choice: _Choice, prompt: list[int] | None) -> None:
        if prompt and not self._resumed:
            self._prompt = prompt
        delta, tokens = choice.delta, choice.token_ids or []
        if delta is None:
            text = choice.text
        else:
            text = delta.get("content")
            if other := [name for name, value in delta.items() if value and name not in ("role", "content")]:
                self.obstacle = f"it has {other[0]}, which is not plain text"
            elif tokens and text is None:
                self.obstacle = "a part of it is held back by a parser"
        self._tokens += tokens
        if (text and not tokens) or (tokens and not self._prompt):
            self.obstacle = "its engine does not name its tokens"
        if (text and len(tokens) == 1) or self.obstacle is not None:
            self._settle()
        elif text:
            self._loose = True
        self._finished |= choice.finish_reason is not None

    def _settle(self) -> None:
        self._settled, self._loose = len(self._tokens), False

    def _as_asked(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """An event of the first engine, with what of its token ids the client has asked for."""
        if not self._head:
            self._head = {name: chunk.get(name) for name in ("id", "object", "created", "model")}
        for choice in chunk["choices"]:
            if choice.get("token_ids") is not None:
                choice["token_ids"] = self._ids()
        if not self._wants_ids:
            for holder in (chunk, *chunk["choices"]):
                if "prompt_token_ids" in holder:
                    holder["prompt_token_ids"] = None
        return chunk

    def _as_the_first(self, chunk: dict[str, Any], read: _Chunk) -> dict[str, Any]:
        """An event of a later engine, which answers on `/v1/completions`, as the first one would have put it."""
        choices = [self._choice(choice.text or "", choice.finish_reason, choice.stop_reason) for choice in read.choices]
        event = {**self._head, "choices": choices}
        if read.usage is not None:
            event["usage"] = self._usage()
        if "system_fingerprint" in chunk:
            event["system_fingerprint"] = chunk["system_fingerprint"]
        return event

    def _choice(self, text: str, finish_reason: str | None, stop_reason: int | str | None = None) -> dict[str, Any]:
        ending: dict[str, Any] = {"logprobs": None, "finish_reason": finish_reason}
        if not self._chat:
            ids = {"prompt_token_ids": None, "token_ids": self._ids()}
            return {"index": 0, "text": text, **ending, "stop_reason": stop_reason, **ids}
        if finish_reason is not None:
            ending["stop_reason"] = stop_reason
        return {"index": 0, "delta": {"content": text}, **ending, "token_ids": self._ids()}

    @property
    def _wants_ids(self) -> bool:
        return bool(self._body.get("return_token_ids"))

    def _ids(self) -> list[int] | None:
        """Those that the next event of the client's names: of tokens that no later engine will generate again."""
        if not self._wants_ids:
            return None
        named, self._named = self._named, len(self._tokens) if self._finished else self._settled
        return self._tokens[named : self._named]

    def _usage(self) -> dict[str, int]:
        prompt, answer = len(self._prompt), len(self._tokens)
        return {"prompt_tokens": prompt, "total_tokens": prompt + answer, "completion_tokens": answer}

    # -- how it ends -------------------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Is there no token to come? Then no engine need be asked for the rest, which is `ending`."""
        return bool(self._prompt) and (self._finished or len(self._tokens) >= self._most)

    def ending(self) -> bytes:
        """The events that are left to deliver of an answer that is `over`."""
        events = b""
        if not self._finished:
            self._finished = True
            events += _data({**self._head, "choices": [self._choice("", "length")]}) + b"\n\n"
        if not self._counted and (self._body.get("stream_options") or {}).get("include_usage"):
            events += _data({**self._head, "choices": [], "usage": self._usage()}) + b"\n\n"
        if not self.complete:
            events += b"data: " + _DONE + b"\n\n"
        self._counted = self.complete = True
        return events


def _data(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk)
