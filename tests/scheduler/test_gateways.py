"""Which gateways are there, and whose requests are whose, through arbitrary comings and goings."""

from hypothesis import given
from hypothesis import strategies as st

from chiasm.nouns import GatewayId, RequestId
from scheduler.gateways import Gateways

PEERS, NAMES = st.sampled_from([b"1", b"2", b"3"]), st.sampled_from(["g1", "g2"]).map(GatewayId)
STEPS = st.one_of(
    st.tuples(st.just("join"), PEERS, NAMES),
    st.tuples(st.just("leave"), PEERS),
    st.tuples(st.just("heard"), PEERS),
    st.tuples(st.just("submit"), PEERS),
    st.tuples(st.just("end"), st.integers(0, 20)),
)


@given(st.lists(STEPS, max_size=40))
def test_a_request_is_its_gateways_until_it_ends_or_that_is_gone(steps: list[tuple[object, ...]]) -> None:
    gateways = Gateways()
    live: dict[RequestId, bytes] = {}
    joined: dict[bytes, GatewayId] = {}
    count = 0
    for now, (what, *given_) in enumerate(steps):
        match what, given_:
            case "join", [bytes(peer), str(name)]:
                gone = {one for one, known in joined.items() if one == peer or known == name}
                expected = {request for request, sender in live.items() if sender in gone}
                assert set(gateways.join(peer, GatewayId(name), now)) == expected
                joined = {one: known for one, known in joined.items() if one not in gone} | {peer: GatewayId(name)}
                live = {request: sender for request, sender in live.items() if request not in expected}
            case "leave", [bytes(peer)]:
                orphans = gateways.leave(peer)
                assert orphans == [request for request, sender in live.items() if sender == peer]
                joined.pop(peer, None)
                live = {request: sender for request, sender in live.items() if sender != peer}
            case "heard", [bytes(peer)]:
                assert gateways.heard(peer, now) == (peer in joined)
            case "submit", [bytes(peer)] if peer in joined:
                count += 1
                gateways.submitted(peer, RequestId(str(count)))
                live[RequestId(str(count))] = peer
            case "end", [int(number)]:
                gateways.ended(RequestId(str(number)))
                live.pop(RequestId(str(number)), None)
        gateways.check_integrity()
        assert all((peer in gateways) == (peer in joined) for peer in (b"1", b"2", b"3"))
        assert {request: gateways.sender(request) for request in live} == live


def test_the_silent_are_those_that_have_said_nothing() -> None:
    gateways = Gateways()
    for number, peer in enumerate((b"1", b"2", b"3")):
        gateways.join(peer, GatewayId(f"g{number}"), number)
    gateways.heard(b"1", 5.0)
    assert gateways.silent_since(0.5) == []
    assert gateways.silent_since(1.5) == [b"2"]
    assert gateways.silent_since(2.0) == [b"2", b"3"]
