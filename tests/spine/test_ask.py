"""`chiasm ask`, put to an endpoint that answers as it is told."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result
from PIL import Image

from chiasm.ask import AskError, chat_body, image_part, phases, split_arguments, stream_answer
from chiasm.cli import main
from chiasm.gateway.media import FORMATS

TIMING = {"Server-Timing": "fetch;dur=1.0, encode;dur=2.5, encode;dur=3.0"}


def event(content: str | None = None, finish_reason: str | None = None) -> bytes:
    chunk = {"choices": [{"delta": {"content": content}, "finish_reason": finish_reason}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class Endpoint:
    """An OpenAI endpoint that says `answer`; what it was asked is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.key: str | None = None
        self.events = [event("Hel"), event("lo"), event(finish_reason="stop"), b"data: [DONE]\n\n"]
        self.refusal: tuple[int, str] | None = None
        self.models: Any = {"data": [{"id": "served"}]}
        self.url = ""

    async def list_models(self, request: web.Request) -> web.Response:
        self.key = request.headers.get("Authorization")
        return web.json_response(self.models)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if self.refusal is not None:
            status, message = self.refusal
            return web.json_response({"error": {"message": message}}, status=status)
        if not body.get("stream"):
            return web.json_response({"choices": [{"message": {"content": "Hello"}}]}, headers=TIMING)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **TIMING})
        await response.prepare(request)
        for each in self.events:
            await response.write(each)
        return response


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application(client_max_size=10 << 20)
    app.add_routes([web.get("/v1/models", endpoint.list_models), web.post("/v1/chat/completions", endpoint.chat)])
    async with TestServer(app) as server:
        endpoint.url = str(server.make_url("")).rstrip("/")
        yield endpoint


@pytest.fixture
def ask(endpoint: Endpoint) -> Callable[..., Awaitable[Result]]:
    def run(*arguments: str) -> Awaitable[Result]:
        command = ["ask", "--endpoint", endpoint.url, *arguments]
        return asyncio.to_thread(CliRunner().invoke, main, command)

    return run


Ask = Callable[..., Awaitable[Result]]


def picture(folder: Path, kind: str, name: str = "picture") -> Path:
    path = folder / name  # without a suffix: the type is told from the content
    Image.new("RGB", (8, 8)).save(path, kind)
    return path


async def test_a_text_question_goes_to_the_model_that_is_served(endpoint: Endpoint, ask: Ask) -> None:
    result = await ask("--api-key", "k", "What is it?")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello\n", "")
    [body] = endpoint.asked
    assert (body["model"], body["messages"]) == ("served", [{"role": "user", "content": "What is it?"}])
    assert "max_tokens" not in body
    assert endpoint.key == "Bearer k"


async def test_options_reach_the_endpoint(endpoint: Endpoint, ask: Ask) -> None:
    await ask("--model", "m", "--system", "Be brief.", "--max-tokens", "3", "Hello?")
    [body] = endpoint.asked
    assert (body["model"], body["max_tokens"]) == ("m", 3)
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert endpoint.key is None  # nobody had to be asked for the model's name


async def test_images_come_first_and_in_their_order(endpoint: Endpoint, ask: Ask, tmp_path: Path) -> None:
    first = picture(tmp_path, "PNG")
    await ask(str(first), "https://example.com/b.jpg", "What differs?")
    *images, text = endpoint.asked[0]["messages"][0]["content"]
    urls = [image["image_url"]["url"] for image in images]
    assert base64.b64decode(urls[0].removeprefix("data:image/png;base64,")) == first.read_bytes()
    assert urls[1] == "https://example.com/b.jpg"
    assert text == {"type": "text", "text": "What differs?"}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_type_that_the_gateway_takes_is_sent_as_what_it_is(tmp_path: Path, kind: str) -> None:
    path = picture(tmp_path, kind)
    mime, data = image_part(path)["image_url"]["url"].removeprefix("data:").split(";base64,")
    assert mime == Image.open(io.BytesIO(base64.b64decode(data))).get_format_mimetype()  # type: ignore[no-untyped-call]


async def test_the_answer_is_printed_as_it_comes(endpoint: Endpoint) -> None:
    heard = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def chat(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event("one"))
        await heard.wait()  # the second piece is sent only when the first has been taken
        await response.write(event("two") + b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat)])

    def listen(url: str) -> list[str]:
        pieces = []
        with stream_answer(url, chat_body("m", [], "?"), None) as answer:
            for piece in answer:
                pieces.append(piece)
                loop.call_soon_threadsafe(heard.set)
        return pieces

    async with TestServer(app) as server:
        assert await asyncio.to_thread(listen, str(server.make_url(""))) == ["one", "two"]


async def test_a_taker_that_fails_is_not_blamed_on_the_endpoint(endpoint: Endpoint) -> None:
    def fail() -> None:
        with stream_answer(endpoint.url, chat_body("m", [], "?"), None) as answer:
            for _ in answer:
                raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await asyncio.to_thread(fail)


async def test_json_prints_the_whole_answer(endpoint: Endpoint, ask: Ask) -> None:
    result = await ask("--json", "--timing", "Hello?")
    assert json.loads(result.stdout)["choices"][0]["message"]["content"] == "Hello"
    assert result.stderr == "fetch 1 ms, encode 6 ms\n"
    assert "stream" not in endpoint.asked[0]


async def test_timing_goes_to_stderr(endpoint: Endpoint, ask: Ask) -> None:
    endpoint.events.insert(-1, b'data: {"choices": [], "usage": {"completion_tokens": 2}}\n\n')
    result = await ask("--timing", "Hello?")
    assert result.stdout == "Hello\n"
    assert result.stderr.startswith("fetch 1 ms, encode 6 ms, first token after ")
    assert result.stderr.endswith("(2 tokens)\n")


async def test_an_answer_that_was_cut_off_says_so(endpoint: Endpoint, ask: Ask) -> None:
    endpoint.events = [event("Hel", "length"), b"data: [DONE]\n\n"]
    result = await ask("--max-tokens", "1", "Hello?")
    assert result.stdout == "Hel\n"
    assert "--max-tokens" in result.stderr


async def test_a_refusal_is_told_in_the_endpoints_words(endpoint: Endpoint, ask: Ask) -> None:
    endpoint.refusal = (400, "It is too long.")
    result = await ask("Hello?")
    assert result.exit_code == 1
    assert result.output == f"{endpoint.url} answered 400: It is too long.\n"


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([event("a"), b'data: {"error": {"message": "It broke."}}\n\n', b"data: [DONE]\n\n"], "It broke."),
        ([event("a")], "broke the answer off"),
        ([b"data: {nonsense\n\n"], "no answer from"),
    ],
)
async def test_a_stream_that_fails_ends_with_an_error(
    endpoint: Endpoint, ask: Ask, events: list[bytes], said: str
) -> None:
    endpoint.events = events
    result = await ask("Hello?")
    assert result.exit_code == 1
    assert said in result.output


@pytest.mark.parametrize("models", [{"data": []}, [], {"object": "list"}])
async def test_an_endpoint_without_a_model_is_named(endpoint: Endpoint, ask: Ask, models: Any) -> None:
    endpoint.models = models
    result = await ask("Hello?")
    assert "lists no model" in result.output


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "Is it running (chiasm serve)?"),
        ("127.0.0.1:8000", "Write it with http://"),
        ("http://[", "no answer from"),
    ],
)
def test_an_endpoint_that_cannot_be_reached_is_named(url: str, said: str) -> None:
    result = CliRunner().invoke(main, ["ask", "--endpoint", url, "Hello?"])
    assert result.exit_code == 1
    assert said in result.output


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("none.png", None, "cannot read"), ("notes.txt", b"hello", "Convert it"), ("empty.png", b"", "Convert it")],
)
def test_a_file_that_is_no_image_is_refused_before_anybody_is_asked(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = CliRunner().invoke(main, ["ask", "--endpoint", "http://127.0.0.1:1", str(tmp_path / name), "What is it?"])
    assert result.exit_code == 1
    assert name in result.output
    assert said in result.output


def test_a_missing_question_is_noticed(tmp_path: Path) -> None:
    path = picture(tmp_path, "PNG")
    with pytest.raises(AskError, match="the question comes last"):
        split_arguments([str(path)])
    assert split_arguments([str(path), "why " * 2000])[1].startswith("why")


def test_phases_that_repeat_are_added_up() -> None:
    assert phases({"server-timing": TIMING["Server-Timing"]}) == {"fetch": 1.0, "encode": 5.5}
    assert phases({}) == {}
