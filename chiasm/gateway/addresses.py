"""Which web addresses the gateway may fetch from: by the names that the operator allows, and by the addresses behind
them, whatever the name. No I/O of its own but the look-up of a name.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yarl import URL

# Registered for uses other than reaching a host on the internet, and not known as such to every supported Python.
_SPECIAL_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "192.0.0.0/24",  # protocol assignments, among them a cloud's metadata service
            "192.88.99.0/24",  # relays from IPv6
            "168.63.129.16/32",  # a cloud's host, seen from its virtual machines
        ),
    )
)
_UNICAST_IPV6 = ipaddress.IPv6Network("2000::/3")  # so neither mapped IPv4, nor NAT64, nor anything local
_SPECIAL_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),  # tunnels that carry IPv4, and examples in books
    )
)


def is_public(address: str) -> bool:
    """Whether `address` (a number, no name) is an ordinary host's on the internet.

    False for everything private, local, shared, reserved or multicast, and for IPv6 that stands for an IPv4 address
    (IANA's special-purpose registries).
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        return parsed in _UNICAST_IPV6 and not any(parsed in network for network in _SPECIAL_IPV6)
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in _SPECIAL_IPV4)


def look_up(host: str, port: int) -> list[str]:
    """The addresses of `host`. Blocks.

    Raises:
        OSError: it has none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(where[0]) for family, *_, where in found if family in (socket.AF_INET, socket.AF_INET6)]


@dataclass(frozen=True)
class Reach:
    """How names become addresses, and which of those may be connected to."""

    look_up: Callable[[str, int], Sequence[str]] = look_up
    permits: Callable[[str], bool] = is_public


class AllowedHosts:
    """The operator's list: ``host``, ``*.domain`` for the hosts below it, ``*`` for every host; each of them for the
    scheme's usual port, or with ``:port`` for that one.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._entries = [_split(entry.lower()) for entry in entries]

    def allows(self, url: URL) -> bool:
        """Whether the list has the host and the port of `url`."""
        host = (url.raw_host or "").rstrip(".").lower()
        return any(
            _matches(host, allowed) and (url.is_default_port() if port is None else url.port == port)
            for allowed, port in self._entries
        )


def _split(entry: str) -> tuple[str, int | None]:
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and not entry.endswith("]"):
        return host.strip("[]"), int(port)
    return entry.strip("[]"), None


def _matches(host: str, allowed: str) -> bool:
    if allowed.startswith("*."):
        return host.endswith(allowed[1:]) and len(host) > len(allowed) - 1
    return allowed in ("*", host)
