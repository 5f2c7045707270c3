"""The middleware of every engine: who has no token gets no answer."""

from typing import Any

import pytest

from chiasm.plugins import RequireToken


async def served(path: str, token: str | None, monkeypatch: pytest.MonkeyPatch, kind: str = "http") -> tuple[bool, int]:
    """Whether the engine was reached, and the status that the middleware itself sent (0 if none)."""
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    reached = []
    sent: list[dict[str, Any]] = []

    async def engine(_scope: Any, _receive: Any, _send: Any) -> None:
        reached.append(True)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [] if token is None else [(b"authorization", token.encode())]
    await RequireToken(engine)({"type": kind, "path": path, "headers": headers}, None, send)
    return bool(reached), sent[0]["status"] if sent else 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/invocations", "/metrics", "/", "/health/", "//health"])
@pytest.mark.parametrize("token", [None, "Bearer wrong", "secret", "Bearer secret "])
async def test_strangers_are_turned_away(path: str, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await served(path, token, monkeypatch) == (False, 401)


async def test_the_gateway_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await served("/invocations", "Bearer secret", monkeypatch) == (True, 0)


async def test_anyone_may_ask_for_health(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await served("/health", None, monkeypatch) == (True, 0)


async def test_a_websocket_of_a_stranger_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await served("/v1/realtime", None, monkeypatch, kind="websocket") == (False, 0)
