"""What a link between two hosts makes the fetch of an embedding take, by its round trip and its rate. Pure arithmetic.

    consumer ──Fetch──► producer               half a round trip
    consumer ◄──Header, chunks── producer      half a round trip, and then bytes as fast as the link takes them

* **Credit.** The producer has at most `wire.window_chunks` under way, and hears of what has landed half a window at a
  time. A window of W bytes leaves in W/rate; credit for its first half is back a round trip after that half has left.
  Where that is later, the producer pauses for `round trip - W / (2 rate)`: after each window, but for the last, since
  nothing waits for its credit.
* **TCP's window.** A new connection sends `opening` bytes before it has heard of any (10 segments, RFC 6928), and twice
  as many in each round trip after that, until they fill the link. So does one that was silent for some tenths of a
  second, unless `net.ipv4.tcp_slow_start_after_idle` of the producer's host is 0. The rest of each of these round trips
  is waited for (J. Kurose, K. Ross, Computer Networking, "Modeling latency: dynamic congestion window").
* **A new connection.** A consumer that has asked this producer for nothing in the last minute connects first: a round
  trip for TCP, two for ZMTP's greeting, two for CURVE's handshake.

Not in it is what the two hosts compute: encryption, checksum, copies. They do it while other chunks travel, so of an
item of several chunks it adds what it takes for one, and as much at each pause. Nor are the limits of their sockets'
buffers (`net.ipv4.tcp_wmem` and `tcp_rmem`), which bound what is under way where rate times round trip is more.
"""

import math
from dataclasses import dataclass

from chiasm.config import WireConfig

CONNECTING_ROUND_TRIPS = 5


@dataclass(frozen=True)
class Link:
    """The way between two hosts."""

    round_trip_s: float
    bytes_per_s: float
    opening: float = math.inf  # bytes that TCP sends before it has heard of any


def fetch_seconds(nbytes: int, link: Link, wire: WireConfig) -> float:
    """Seconds that the link makes the fetch of `nbytes` take, over a connection that is there already."""
    return link.round_trip_s + nbytes / link.bytes_per_s + _waits(nbytes, link, wire.window_chunks * wire.chunk_bytes)


def _waits(nbytes: int, link: Link, credit: int) -> float:
    """Seconds in which the producer has sent all that it may, and hears nothing yet."""
    left, waits = float(nbytes), 0.0
    window = link.opening
    while window < min(left, credit, link.bytes_per_s * link.round_trip_s):
        waits += link.round_trip_s - window / link.bytes_per_s
        left -= window
        window *= 2
    pause = link.round_trip_s - credit / (2 * link.bytes_per_s)
    return waits + max(0.0, pause) * (math.ceil(left / credit) - 1)
