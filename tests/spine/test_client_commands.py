"""`chiasm status`, `explain`, `timeline` and `profile`, put to an endpoint that answers as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result
from test_status_view import STATUS

from chiasm.cli import announce, main
from chiasm.config import GatewayConfig


class Endpoint:
    """Has an answer for some paths, and `usual` for others. `asked` are the paths as they came, escapes and all."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {"/v1/chiasm/status": (200, STATUS)}
        self.usual: tuple[int, Any] = (404, {"error": {"message": "It is not known."}})
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.raw_path)
        status, body = self.answers.get(request.path, self.usual)
        return web.json_response(body, status=status)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", endpoint.answer)])
    async with TestServer(app) as server:
        endpoint.url = str(server.make_url("")).rstrip("/")
        yield endpoint


Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(endpoint: Endpoint) -> Run:
    def run(*arguments: str, at: str | None = None) -> Awaitable[Result]:
        return asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--endpoint", at or endpoint.url])

    return run


async def test_a_pipe_has_room_for_every_column(run: Run) -> None:
    result = await run("status")
    assert result.exit_code == 0
    assert "192.168.100.101" in result.output


@pytest.mark.parametrize("command", [("timeline", "id"), ("profile",)])
@pytest.mark.parametrize("name", ["x.bmp", "x.txt", "x"])
async def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_asked(
    endpoint: Endpoint, run: Run, command: tuple[str, ...], name: str
) -> None:
    result = await run(*command, "--plot", name)
    assert result.exit_code == 2
    assert "Let it end in .svg or .png" in " ".join(result.output.split())
    assert endpoint.asked == []


async def test_a_picture_may_end_in_capitals(endpoint: Endpoint, run: Run, tmp_path: Path) -> None:
    assert "not known" in (await run("timeline", "id", "--plot", str(tmp_path / "x.SVG"))).output


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("command", [("status",), ("explain", "id"), ("timeline", "id"), ("profile",), ("ask", "Why?")])
async def test_who_is_refused_hears_how_to_give_a_key(
    endpoint: Endpoint, run: Run, command: tuple[str, ...], status: int
) -> None:
    endpoint.answers, endpoint.usual = {}, (status, {"error": {"message": "Send a key."}})
    result = await run(*command)
    assert result.exit_code == 1
    assert f"{status}: Send a key. For chiasm: --api-key KEY, or CHIASM_API_KEY" in result.output


async def test_another_error_says_nothing_of_keys(run: Run) -> None:
    assert "CHIASM_API_KEY" not in (await run("explain", "id")).output


def test_the_help_names_the_variable() -> None:
    assert "CHIASM_API_KEY" in CliRunner().invoke(main, ["status", "--help"]).output


@pytest.mark.parametrize(
    ("gateway", "of"),
    [
        (GatewayConfig(api_keys=["secret"]), "gateway.api_keys"),
        (GatewayConfig(api_keys=["secret"], operator_keys=["secret"]), "gateway.operator_keys"),
        (GatewayConfig(), None),
    ],
)
def test_what_a_ready_cluster_says_to_type_has_a_key_where_one_is_wanted(
    capsys: pytest.CaptureFixture[str], gateway: GatewayConfig, of: str | None
) -> None:
    announce("http://h:1", "m", gateway)
    said = capsys.readouterr().out
    assert ('-H "Authorization: Bearer $CHIASM_API_KEY"' in said) == (of is not None)
    assert (f"export CHIASM_API_KEY=...   # one of {of}" in said) == (of is not None)
    assert "secret" not in said


@pytest.mark.parametrize("end", ["/v1", "/v1/", "/"])
async def test_the_base_url_that_clients_of_openai_want_does_as_well(endpoint: Endpoint, run: Run, end: str) -> None:
    assert (await run("status", at=endpoint.url + end)).exit_code == 0
    assert endpoint.asked == ["/v1/chiasm/status"]


async def test_what_kv_would_ignore_is_refused(endpoint: Endpoint, run: Run) -> None:
    result = await run("profile", "--kv", "-o", "z.json", "--roofline", "--seconds", "3")
    assert result.exit_code == 2
    assert "--seconds and --output and --roofline would do nothing" in " ".join(result.output.split())
    assert (await run("profile", "--kv")).exit_code == 1
    assert endpoint.asked == ["/v1/chiasm/machines"]


@pytest.mark.parametrize("command", ["explain", "timeline"])
@pytest.mark.parametrize(("given", "asked"), [("a b", "a%20b"), ("a/b?c#d", "a%2Fb%3Fc%23d")])
async def test_an_id_that_is_none_is_not_known(
    endpoint: Endpoint, run: Run, command: str, given: str, asked: str
) -> None:
    assert "404: It is not known." in (await run(command, given)).output
    assert endpoint.asked[0].removesuffix("/reasons") == f"/v1/chiasm/requests/{asked}"


@pytest.mark.parametrize("command", ["explain", "timeline"])
async def test_an_empty_id_is_refused(endpoint: Endpoint, run: Run, command: str) -> None:
    result = await run(command, "")
    assert (result.exit_code, endpoint.asked) == (2, [])
    assert "Give the X-Request-Id of an answer" in result.output


async def test_tls_with_what_speaks_none_has_its_own_cure(endpoint: Endpoint, run: Run) -> None:
    result = await run("status", at=endpoint.url.replace("http://", "https://"))
    assert "write http://" in result.output
    assert "Is it running" not in result.output


async def test_a_file_that_cannot_be_written_is_named_as_it_was_given(endpoint: Endpoint, run: Run) -> None:
    result = await run("profile", "-o", "/nonexistent/t.json")
    assert "cannot write /nonexistent/t.json: No such file or directory. Name a file with -o" in result.output
    assert endpoint.asked == []
