"""A line that delivers packets late, for kernels without netem: it stands in for `tc qdisc add ... netem delay 5ms 2ms`
at both of its ends.

    host A ── TUN device ── this process: 5 ± 2 ms ── TUN device ── host B

Each way has delays of its own, uniform between 3 and 7 ms. netem draws one for every packet, so that packets overtake
each other, which TCP takes for losses. A real line does not do that: here they stay in order, and those that follow
each other within a millisecond share one draw. How many bits go through in a second is for `tc` at the devices to say.
"""

import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from namespaces import inside

DELAY_S = 0.005
JITTER_S = 0.002
RATE = 125_000_000  # bytes/s: 1 Gbit/s

BURST_S = 0.001  # packets that come sooner after the one before share its delay
TUNSETIFF = 0x400454CA  # linux/if_tun.h; likewise the next two
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_BYTES = 65_536
READ_A_TURN = 64
SEED = 7


@contextmanager
def delay_line(one: str, other: str) -> Iterator[str]:
    """A line between two network namespaces; yields the name of its device in both."""
    name = "line"
    ends = [_open_tun(namespace, name) for namespace in (one, other)]
    try:
        command = [sys.executable, __file__, *map(str, ends)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=ends)
    finally:
        for end in ends:
            os.close(end)
    try:
        yield name
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _open_tun(namespace: str, name: str) -> int:
    """A new device of that name in the namespace. Whoever holds the descriptor is what it is connected to."""
    with inside(namespace):
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


class _Way:
    """One direction: packets and when each is due, the next one first."""

    def __init__(self, source: int, target: int, draws: random.Random) -> None:
        self.source = source
        self._target = target
        self._draws = draws
        self._delay = DELAY_S
        self._last_read = 0.0
        self._last_due = 0.0
        self._packets: deque[tuple[float, bytes]] = deque()

    @property
    def due(self) -> float:
        """When there is something to write."""
        return self._packets[0][0] if self._packets else float("inf")

    def read(self) -> None:
        """Take in what has come."""
        for _ in range(READ_A_TURN):
            try:
                packet = os.read(self.source, PACKET_BYTES)
            except BlockingIOError:
                return
            now = time.monotonic()
            if now - self._last_read > BURST_S:
                self._delay = self._draws.uniform(DELAY_S - JITTER_S, DELAY_S + JITTER_S)
            self._last_read = now
            self._last_due = max(self._last_due, now + self._delay)
            self._packets.append((self._last_due, packet))

    def write(self) -> None:
        """Deliver what is due."""
        while self.due <= time.monotonic():
            with suppress(OSError):  # the device is down: lost, as on any line
                os.write(self._target, self._packets.popleft()[1])


def carry(one: int, other: int, stop: int) -> None:
    """Carry packets between two TUN devices until `stop` is readable."""
    draws = random.Random(SEED)
    ways = (_Way(one, other, draws), _Way(other, one, draws))
    sources = [way.source for way in ways]
    while True:
        due = min(way.due for way in ways)
        patience = None if due == float("inf") else max(0.0, due - time.monotonic())
        ready, _, _ = select.select([*sources, stop], [], [], patience)  # unlike epoll, precise below a millisecond
        if stop in ready:
            return
        for way in ways:
            if way.source in ready:
                way.read()
            way.write()


if __name__ == "__main__":
    with suppress(PermissionError):
        # Else the line would be slower the more there is to do for others on this machine.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    carry(int(sys.argv[1]), int(sys.argv[2]), sys.stdin.fileno())
