"""A few plain HTTP calls to a running endpoint, for the command line. Applications use any OpenAI client instead."""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

TIMEOUT_S = 600.0  # as long as a gateway holds a request, unless configured otherwise

API_KEY_VARIABLE = "CHIASM_API_KEY"


def request_path(request_id: str) -> str:
    """Where an endpoint tells of one request."""
    return f"/v1/chiasm/requests/{quote(request_id, safe='')}"


class EndpointError(RuntimeError):
    """No answer, or an error; the message says which, and what to do."""


def get_json(endpoint: str, path: str, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> Any:
    """GET a JSON document.

    Raises:
        EndpointError: see there.
    """
    return _call(endpoint, path, None, api_key, timeout_s)[0]


def post_json(endpoint: str, path: str, body: Any, api_key: str | None = None) -> tuple[Any, dict[str, str]]:
    """POST a JSON document; returns the answer and its headers (names in lower case).

    Raises:
        EndpointError: see there.
    """
    return _call(endpoint, path, body, api_key)


@contextmanager
def post_stream(
    endpoint: str, path: str, body: Any, api_key: str | None = None
) -> Iterator[tuple[Iterator[Any], dict[str, str]]]:
    """POST a JSON document whose answer is a stream of events: these as they come, and the headers (in lower case).

    Raises:
        EndpointError: see there; also while the events are taken, e.g. because the stream breaks off.
    """
    with _open(endpoint, path, body, api_key) as answer:
        yield _events(answer, endpoint), _headers(answer)


def _call(
    endpoint: str, path: str, body: Any, api_key: str | None, timeout_s: float = TIMEOUT_S
) -> tuple[Any, dict[str, str]]:
    with _open(endpoint, path, body, api_key, timeout_s) as answer, _failures(endpoint):
        return json.load(answer), _headers(answer)


def _open(
    endpoint: str, path: str, body: Any, api_key: str | None, timeout_s: float = TIMEOUT_S
) -> http.client.HTTPResponse:
    if not endpoint.startswith(("http://", "https://")):
        raise EndpointError(f"{endpoint} is no address. Write it with http://, e.g. http://127.0.0.1:8000.")
    with _failures(endpoint):
        # Without /v1, which OpenAI's clients want at the end of a base URL, so that people have it there.
        request = urllib.request.Request(endpoint.rstrip("/").removesuffix("/v1") + path)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if api_key is not None:
            request.add_header("Authorization", f"Bearer {api_key}")
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_s)
        return answer


@contextmanager
def _failures(endpoint: str) -> Iterator[None]:
    """Whatever goes wrong between us and the endpoint, as an EndpointError."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            how = (
                f" For chiasm: --api-key KEY, or {API_KEY_VARIABLE} in the environment."
                if error.code in (401, 403)
                else ""
            )
            raise EndpointError(f"{endpoint} answered {error.code}: {_message(error.read())}{how}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            raise EndpointError(
                f"no TLS with {endpoint}: {reason}. A gateway itself speaks plain HTTP: write http://, unless "
                "something before it ends TLS, with a certificate that this machine trusts."
            ) from error
        raise EndpointError(f"no answer from {endpoint}: {reason}. Is it running (chiasm serve)?") from error


def _events(answer: http.client.HTTPResponse, endpoint: str) -> Iterator[Any]:
    while True:
        with _failures(endpoint):  # around the reading alone: what the taker of an event does is not the endpoint's
            line = answer.readline()
            content = line.removeprefix(b"data:").strip()
            event = json.loads(content) if line.startswith(b"data:") and content != b"[DONE]" else None
        if content == b"[DONE]":
            return
        if not line:
            raise EndpointError(f"{endpoint} broke the answer off. Its log says why; ask again.")
        if event is None:
            continue
        if "error" in event:
            raise EndpointError(f"{endpoint} ended the answer: {_message(content)}")
        yield event


def _headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
