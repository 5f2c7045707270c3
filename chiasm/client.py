"""A few plain HTTP calls to a running endpoint, for the command line. Applications use any OpenAI client instead."""

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 600.0  # as long as a gateway holds a request, unless configured otherwise


class EndpointError(RuntimeError):
    """No answer, or an error; the message says which, and what to do."""


def get_json(endpoint: str, path: str, api_key: str | None = None) -> Any:
    """GET a JSON document.

    Raises:
        EndpointError: see there.
    """
    return _call(urllib.request.Request(endpoint.rstrip("/") + path), endpoint, api_key)[0]


def post_json(endpoint: str, path: str, body: Any, api_key: str | None = None) -> tuple[Any, dict[str, str]]:
    """POST a JSON document; returns the answer and its headers (names in lower case).

    Raises:
        EndpointError: see there.
    """
    request = urllib.request.Request(endpoint.rstrip("/") + path, json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    return _call(request, endpoint, api_key)


def _call(request: urllib.request.Request, endpoint: str, api_key: str | None) -> tuple[Any, dict[str, str]]:
    if api_key is not None:
        request.add_header("Authorization", f"Bearer {api_key}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer), {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        raise EndpointError(f"{endpoint} answered {error.code}: {_message(error.read())}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise EndpointError(f"no answer from {endpoint}: {reason}. Is it running (chiasm serve)?") from error


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
