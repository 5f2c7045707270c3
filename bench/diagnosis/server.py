"""What a running server says of itself before anything is asked of it, and what its model's configuration adds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load.asking import Endpoint, Unreachable
from chiasm.client import EndpointError, get_json


class NoConfiguration(ValueError):
    """A model's configuration that was named cannot be read; the message says why, and what to do."""


@dataclass(frozen=True)
class Server:
    """Of the first model that it serves."""

    endpoint: Endpoint
    longest: int | None  # tokens of prompt and answer, if it tells, as vLLM does
    folder: str | None  # where its model lies, if that is a folder that can be seen from here


def look(url: str, key: str | None) -> Server:
    """Ask it for its models. `url` may end in /v1.

    Raises:
        Unreachable: no answer, or no model; the message says what to do.
    """
    base = url.rstrip("/").removesuffix("/v1")
    try:
        models = get_json(base, "/v1/models", key)
    except EndpointError as error:
        cure = " Pass its key: --key, or OPENAI_API_KEY." if " 401" in str(error) or " 403" in str(error) else ""
        raise Unreachable(f"{error}{cure}") from error
    try:
        [first, *_] = models["data"]
        endpoint = Endpoint(base, str(first["id"]), key)
    except (LookupError, TypeError, ValueError) as error:
        raise Unreachable(f"{base} lists no model. Is it an OpenAI-compatible server that is ready?") from error
    longest, root = first.get("max_model_len"), str(first.get("root") or "")
    here = bool(root) and (Path(root) / "config.json").is_file()
    return Server(endpoint, longest if isinstance(longest, int) else None, root if here else None)


def configuration(server: Server, model: str | None) -> Mapping[str, Any] | None:
    """The `config.json`, every field of it present, of `model` (a folder or a hub id), or of what the server serves, if
    that is a folder here. None: neither is at hand.

    Raises:
        NoConfiguration: see there; only of a `model` that is named.
    """
    source = model or server.folder
    if source is None:
        return None
    from transformers import AutoConfig

    try:
        found: dict[str, Any] = AutoConfig.from_pretrained(source).to_dict()
    except (OSError, ValueError, KeyError) as error:
        if model is None:
            return None
        raise NoConfiguration(f"cannot read the configuration of {model}: {error}. Name its folder.") from error
    return found
