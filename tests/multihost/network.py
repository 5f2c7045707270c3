"""Hosts of a network of their own: a namespace each, with one address each, at a switch in a namespace of its own.

This process is at the switch too. 198.18.0.0/15 is for tests of networks (RFC 2544), so nobody's addresses are taken.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from delay_line import RATE, delay_line
from namespaces import inside, run

NET = "198.18.0"
OWN_ADDRESS = f"{NET}.254"
MTU = "9000"  # few packets, as the delay line takes each in its hands
SETTINGS = {
    "tcp_congestion_control": "reno",  # which any namespace may choose, and whose window grows by the book (RFC 5681)
    "tcp_slow_start_after_idle": "0",  # as docs/bare_metal.md advises
}


class Network:
    """Links between `hosts`, which are cut and joined, or taken over a slow line, one by one."""

    def __init__(self, hosts: Sequence[str]) -> None:
        self.addresses = {host: f"{NET}.{number}" for number, host in enumerate(hosts, 1)}
        self._prefix = f"chiasm-{os.getpid()}"
        self._switch = self.namespace("switch")

    def namespace(self, host: str) -> str:
        """The name of a host's network namespace."""
        return f"{self._prefix}-{host}"

    @contextmanager
    def up(self) -> Iterator[None]:
        """The network, for as long as the context lasts."""
        with ExitStack() as stack:
            for host in ("switch", *self.addresses):
                namespace = self.namespace(host)
                run("ip", "netns", "add", namespace)
                stack.callback(run, "ip", "netns", "del", namespace)  # with all its links
                run("ip", "-n", namespace, "link", "set", "lo", "up")
            run("ip", "-n", self._switch, "link", "add", "bridge", "mtu", MTU, "type", "bridge")
            run("ip", "-n", self._switch, "link", "set", "bridge", "up")
            for host, address in self.addresses.items():
                namespace = self.namespace(host)
                self._plug(host, "eth0", "netns", namespace, "address", _card(address))
                run("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
                run("ip", "-n", namespace, "link", "set", "eth0", "up")
                for other in set(self.addresses.values()) - {address}:
                    # Else it would hear that a host is gone from nobody's answering at its address. Behind a router
                    # it does not.
                    known = (other, "lladdr", _card(other), "dev", "eth0", "nud", "permanent")
                    run("ip", "-n", namespace, "neighbour", "add", *known)
                self.set_tcp(host, SETTINGS)
            own = f"chiasm{os.getpid()}"[:15]
            self._plug("tests", own, "netns", str(os.getpid()))
            stack.callback(run, "ip", "link", "del", own)
            run("ip", "address", "add", f"{OWN_ADDRESS}/24", "dev", own)
            run("ip", "link", "set", own, "up")
            yield

    def _plug(self, port: str, peer: str, *where: str) -> None:
        """A cable from the switch's port of that name to a link called `peer`."""
        cable = ("type", "veth", "peer", "name", peer, *where, "mtu", MTU)
        run("ip", "-n", self._switch, "link", "add", port, "mtu", MTU, *cable)
        run("ip", "-n", self._switch, "link", "set", port, "master", "bridge", "up")

    def set_tcp(self, host: str, settings: dict[str, str]) -> None:
        """Change settings below /proc/sys/net/ipv4 of one host."""
        with inside(self.namespace(host)):
            for name, value in settings.items():
                (Path("/proc/sys/net/ipv4") / name).write_text(value)

    def cut(self, host: str) -> None:
        """Pull the host's cable out of the switch: nobody is told, packets just do not arrive."""
        run("ip", "-n", self._switch, "link", "set", host, "down")

    def join(self, host: str) -> None:
        """Plug it in again."""
        run("ip", "-n", self._switch, "link", "set", host, "up")

    @contextmanager
    def line(self, one: str, other: str) -> Iterator["Line"]:
        """A slow line between two hosts, for `Line.taken`; nothing goes over it until then."""
        ends = {one: other, other: one}
        with delay_line(*map(self.namespace, ends)) as link:
            for host in ends:
                namespace = self.namespace(host)
                run("ip", "-n", namespace, "link", "set", link, "mtu", MTU, "txqueuelen", "2000", "up")
                shaping = ("root", "tbf", "rate", f"{8 * RATE}bit", "burst", "32kb", "latency", "200ms")
                run("tc", "-n", namespace, "qdisc", "add", "dev", link, *shaping)
            yield Line(self, link, ends)


def _card(address: str) -> str:
    """The address of the network card of the host with this one."""
    return f"02:00:00:00:00:{int(address.rpartition('.')[2]):02x}"


class Line:
    """A slow way between two hosts, beside the switch."""

    def __init__(self, network: Network, link: str, ends: dict[str, str]) -> None:
        self._network = network
        self._link = link
        self._ends = ends

    @contextmanager
    def taken(self) -> Iterator[None]:
        """What the two say to each other goes this way meanwhile; connections go on."""
        self._route("add")
        try:
            yield
        finally:
            self._route("del")

    def _route(self, verb: str) -> None:
        addresses = self._network.addresses
        for host, peer in self._ends.items():
            way = (f"{addresses[peer]}/32", "dev", self._link, "src", addresses[host])
            run("ip", "-n", self._network.namespace(host), "route", verb, *way)
