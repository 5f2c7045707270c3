"""Who sends a request, by its bearer token, and what it may ask for: answers, or also what tells of everybody's."""

import hmac
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from aiohttp import web
from blake3 import blake3

from chiasm.config import GatewayConfig
from chiasm.gateway.errors import ApiError
from chiasm.gateway.flow import Tenant

TENANT = web.RequestKey("chiasm_tenant", Tenant)
"""Whose request it is, once `authentication` has let it pass."""

_OF_ONE_REQUEST = "/v1/chiasm/requests/"
"""Whoever knows a request's id, which nobody can guess, may ask about it."""


def authentication(config: GatewayConfig) -> Any:
    """The middleware that lets pass what its sender may ask for."""
    clients = {}
    if config.api_keys:
        keys = (*config.operator_keys, *config.api_keys)
        clients = {_bearer(key): config.api_key_weights.get(key, 1.0) for key in keys}
    operators = [_bearer(key) for key in config.operator_keys]

    @web.middleware
    async def authenticate(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request[TENANT] = Tenant("", 1.0)
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if clients and request.path.startswith("/v1/"):
            if not _is_one_of(clients, given):
                raise ApiError(
                    401,
                    "Missing or wrong API key. Send one as `Authorization: Bearer KEY`.",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            request[TENANT] = Tenant(blake3(given).hexdigest(), clients[given])
        if operators and _tells_of_everybody(request.path) and not _is_one_of(operators, given):
            raise ApiError(
                403,
                "This tells of everybody's requests. Send one of gateway.operator_keys as `Authorization: Bearer KEY`.",
                code="operator_key_required",
            )
        return await handler(request)

    return authenticate


def _bearer(key: str) -> bytes:
    return f"Bearer {key}".encode()


def _is_one_of(keys: Collection[bytes], given: bytes) -> bool:
    # Every key is compared, in constant time: how long a refusal takes tells nothing.
    return any([hmac.compare_digest(given, key) for key in keys])  # noqa: C419


def _tells_of_everybody(path: str) -> bool:
    return path.startswith("/v1/chiasm/") and not path.startswith(_OF_ONE_REQUEST)
