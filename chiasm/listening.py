"""The address that the endpoint listens at: whether it can be had, and how clients write it."""

import asyncio
import errno
import sys

from chiasm.config import GatewayConfig

_OF_THE_PORT = (errno.EADDRINUSE, errno.EACCES)
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def require_free_port(gateway: GatewayConfig) -> None:
    """Exit at once where the endpoint's address cannot be had, rather than after a minute of preparations."""
    try:
        asyncio.run(_listen(gateway))
    except OSError as error:
        where = _authority(gateway.host, gateway.port)
        cure = "Choose another with --port" if error.errno in _OF_THE_PORT else "See gateway.host"
        sys.exit(f"cannot listen at {where}: {error.strerror or error}. {cure}.")


async def _listen(gateway: GatewayConfig) -> None:
    # As the gateway does it later: on every address of a name, and of IPv6 on nothing but IPv6.
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, gateway.host, gateway.port)
    server.close()


def base_url(host: str, port: int) -> str:
    """The URL of what listens at this address, for this machine: every address includes the loopback's."""
    return f"http://{_authority(_LOOPBACK.get(host, host), port)}"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
