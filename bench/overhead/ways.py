"""The two ways to one engine: through a cluster's gateway, and directly, with the cluster's own token."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import psutil

from bench.load.asking import Endpoint, served_model
from chiasm.client import get_json
from chiasm.nouns import Role

SERVER = "vllm.entrypoints.openai.api_server"


class NoSuchEngine(RuntimeError):
    """A cluster has no engine that could be asked directly; the message says why, and what to do."""


@dataclass(frozen=True)
class Ways:
    """What is compared."""

    gateway: Endpoint
    direct: Endpoint
    slots: int  # requests that the engine runs at once
    images: bool  # whether the engine takes pictures itself, and not only what an encoder has made of them


def ways_through(url: str, key: str | None) -> Ways:
    """The gateway at `url`, and the one engine behind it that generates.

    Its address is asked of the gateway, its token read from the environment of its process: so it must run here, and
    belong to the same user.

    Raises:
        Unreachable: no gateway answers there.
        EndpointError: what answers is no gateway of ours, or does not tell this key.
        NoSuchEngine: see there.
    """
    model = served_model(url, key)
    workers = get_json(url, "/v1/chiasm/status", key)["workers"]
    generating = [worker for worker in workers if worker["role"] != Role.ENCODER]
    if len(generating) != 1:
        names = ", ".join(worker["worker"] for worker in generating) or "none"
        raise NoSuchEngine(
            f"{url} hands requests to several engines, or to none ({names}), so there is no single one to compare it "
            "with. Cure: a cluster of one decoder, or of one whole worker, without stealing."
        )
    [worker] = generating
    return Ways(
        gateway=Endpoint(url, model, key),
        direct=Endpoint(worker["url"], model, _token(worker)),
        slots=worker["slots"],
        images=worker["role"] == Role.WHOLE,
    )


def _token(worker: dict[str, Any]) -> str:
    port = str(urlsplit(worker["url"]).port)
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or ()
        if SERVER not in command or ("--port", port) not in pairwise(command):
            continue
        try:
            return process.environ()["VLLM_API_KEY"]
        except (psutil.Error, KeyError):  # just gone, or another user's
            continue
    raise NoSuchEngine(
        f"the engine of {worker['worker']}, {worker['url']}, is no process of this user's on this machine, so its "
        "token is not known. Cure: run this where the engine runs, as the user who started it."
    )
