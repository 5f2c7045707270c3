"""Which gateways are connected, when each was last heard of, and whose requests are whose.

Owns that and nothing else: what becomes of the requests of one that is gone is for its caller to say. Pure: no I/O and
no clock. Imports only `chiasm.nouns` and the standard library.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from chiasm.nouns import GatewayId, RequestId

Peer = bytes
"""One connection, by the channel's name for it. A gateway that connects anew is another peer."""


@dataclass(slots=True)
class _Gateway:
    id: GatewayId
    heard: float
    requests: dict[RequestId, None] = field(default_factory=dict)  # in the order of their submission


class Gateways:
    """The gateways that have joined and are not gone. Of another peer nothing should be taken: its words may have gaps.

    Times are in seconds, on any clock that never steps back.
    """

    def __init__(self) -> None:
        self._joined: OrderedDict[Peer, _Gateway] = OrderedDict()  # longest silence first
        self._peers: dict[GatewayId, Peer] = {}
        self._senders: dict[RequestId, Peer] = {}

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._joined

    def join(self, peer: Peer, gateway: GatewayId, now: float) -> list[RequestId]:
        """A gateway begins, or begins anew. Returns the requests that it had before, which are nobody's now."""
        before = self._peers.get(gateway)
        orphans = self.leave(peer)
        if before is not None:
            orphans += self.leave(before)
        self._joined[peer] = _Gateway(gateway, now)
        self._peers[gateway] = peer
        return orphans

    def leave(self, peer: Peer) -> list[RequestId]:
        """A gateway is gone, if it was there. Returns its requests, which are nobody's now."""
        gateway = self._joined.pop(peer, None)
        if gateway is None:
            return []
        del self._peers[gateway.id]
        for request in gateway.requests:
            del self._senders[request]
        return list(gateway.requests)

    def heard(self, peer: Peer, now: float) -> bool:
        """Notes a sign of life; False if the peer has not joined, or is gone."""
        gateway = self._joined.get(peer)
        if gateway is None:
            return False
        gateway.heard = now
        self._joined.move_to_end(peer)
        return True

    def silent_since(self, time: float) -> list[Peer]:
        """Those not heard of since `time`."""
        silent = []
        for peer, gateway in self._joined.items():  # oldest first: stops at the first that is alive
            if gateway.heard > time:
                break
            silent.append(peer)
        return silent

    def submitted(self, peer: Peer, request: RequestId) -> None:
        """A request has begun to live; its gateway has joined."""
        self._senders[request] = peer
        self._joined[peer].requests[request] = None

    def ended(self, request: RequestId) -> None:
        """Nothing more is to be said about a request; it may have ended before."""
        peer = self._senders.pop(request, None)
        if peer is not None:
            del self._joined[peer].requests[request]

    def sender(self, request: RequestId) -> Peer | None:
        """The gateway of a live request; None if that is gone."""
        return self._senders.get(request)

    def check_integrity(self) -> None:
        """Raises AssertionError where the books do not agree."""
        heard = [gateway.heard for gateway in self._joined.values()]
        assert heard == sorted(heard), "silence is out of order"
        assert self._peers == {gateway.id: peer for peer, gateway in self._joined.items()}, "a gateway is there twice"
        theirs = {request: peer for peer, gateway in self._joined.items() for request in gateway.requests}
        assert self._senders == theirs, "a request is not where its gateway is"
