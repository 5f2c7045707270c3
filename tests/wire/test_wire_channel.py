import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zmq
from wire_helpers import PATIENCE_S, RawPeer, wait_until

from chiasm.messages import Cancel, Heartbeat, Unknown, encode
from chiasm.nouns import RequestId, WorkerId
from chiasm.wire import channel
from chiasm.wire.channel import MAX_MESSAGE_BYTES, ChannelClient, ChannelServer
from chiasm.wire.keys import ClusterKeys, KeysError

Opened = Callable[[Any], Any]
TCP = "tcp://127.0.0.1:*"
HELLO = Heartbeat(WorkerId("encoder-0"))
ANSWER = Unknown(WorkerId("encoder-0"))


async def soon(awaitable: Any) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        return await awaitable


async def round_trip(server: ChannelServer, client: ChannelClient) -> bytes:
    """A message each way; the name of the peer."""
    assert client.send(HELLO)
    peer, message = await soon(server.receive())
    assert message == HELLO
    assert server.send(peer, ANSWER)
    assert await soon(client.receive()) == ANSWER
    return peer


@pytest.mark.parametrize("policy", ["auto", "curve"])
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
async def test_messages_go_both_ways(transport: str, policy: Any, ipc: str, keys: ClusterKeys, opened: Opened) -> None:
    server = opened(ChannelServer(ipc if transport == "ipc" else TCP, keys, policy))
    client = opened(ChannelClient(server.endpoint, keys, policy))
    assert "*" not in server.endpoint
    await round_trip(server, client)


async def test_each_client_gets_its_own_answers(ipc: str, opened: Opened) -> None:
    server = opened(ChannelServer(ipc))
    clients = [opened(ChannelClient(ipc)) for _ in range(3)]
    peers = [await round_trip(server, client) for client in clients]
    for number, peer in enumerate(peers):
        server.send(peer, Unknown(WorkerId(str(number))))
    heard = [await soon(client.receive()) for client in clients]
    assert heard == [Unknown(WorkerId(str(number))) for number in range(3)]


async def test_messages_keep_their_order(ipc: str, opened: Opened) -> None:
    server, client = opened(ChannelServer(ipc)), opened(ChannelClient(ipc))
    sent = [Cancel(RequestId(str(number))) for number in range(500)]
    assert all(client.send(message) for message in sent)
    assert [(await soon(server.receive()))[1] for _ in sent] == sent


async def test_sending_does_not_keep_a_waiting_receiver_asleep(ipc: str, opened: Opened) -> None:
    server, client = opened(ChannelServer(ipc)), opened(ChannelClient(ipc))
    peer = await round_trip(server, client)
    for _ in range(200):
        waiting = asyncio.create_task(server.receive())
        await asyncio.sleep(0)
        client.send(HELLO)
        while not waiting.done():
            server.send(peer, ANSWER)
            await asyncio.sleep(0)
        assert (await waiting)[1] == HELLO
        while True:
            try:
                async with asyncio.timeout(0):
                    await client.receive()
            except TimeoutError:
                break


async def test_a_cancelled_receive_loses_nothing(ipc: str, opened: Opened) -> None:
    server, client = opened(ChannelServer(ipc)), opened(ChannelClient(ipc))
    peer = await round_trip(server, client)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.receive()
    server.send(peer, ANSWER)
    assert await soon(client.receive()) == ANSWER


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"garbage"],
        [b"\x92\xa1\xff\x01"],
        [b"\x91" * 10_000],
        [msgspec.msgpack.encode(["Heartbeat"])],
        [msgspec.msgpack.encode(["Nothing", 1])],
        [encode(HELLO), b"more"],
    ],
)
async def test_what_is_no_message_is_dropped(frames: list[bytes], ipc: str, opened: Opened) -> None:
    server = opened(ChannelServer(ipc))
    stranger = opened(RawPeer(zmq.DEALER, connect=ipc))
    stranger.socket.send_multipart(frames)
    stranger.socket.send(encode(HELLO))
    assert (await soon(server.receive()))[1] == HELLO
    assert server.dropped == 1


async def test_what_is_no_answer_is_dropped_by_the_client(ipc: str, opened: Opened) -> None:
    stranger = opened(RawPeer(zmq.ROUTER, bind=ipc))
    client = opened(ChannelClient(ipc))
    client.send(HELLO)
    peer, _ = stranger.socket.recv_multipart()
    stranger.socket.send_multipart([peer, b"garbage"])
    stranger.socket.send_multipart([peer, encode(ANSWER)])
    assert await soon(client.receive()) == ANSWER
    assert client.dropped == 1


async def test_a_huge_frame_only_ends_its_own_connection(ipc: str, opened: Opened) -> None:
    server, client = opened(ChannelServer(ipc)), opened(ChannelClient(ipc))
    stranger = opened(RawPeer(zmq.DEALER, connect=ipc))
    stranger.socket.send(bytes(MAX_MESSAGE_BYTES + 1))
    assert stranger.disconnected()
    await round_trip(server, client)
    assert server.dropped == 0, "it was not even taken in"


async def test_a_vanished_peer_is_told_by_the_send(ipc: str, opened: Opened) -> None:
    server, client = opened(ChannelServer(ipc)), ChannelClient(ipc)
    peer = await round_trip(server, client)
    assert not server.send(b"never seen", ANSWER)
    client.close()
    wait_until(lambda: not server.send(peer, ANSWER))


async def test_queues_are_bounded(ipc: str, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "HIGH_WATER", 5)
    client = opened(ChannelClient(ipc))
    assert [client.send(HELLO) for _ in range(7)] == [True] * 5 + [False] * 2
    server = opened(ChannelServer(ipc))
    for _ in range(5):
        peer, _ = await soon(server.receive())
    while server.send(peer, ANSWER):
        pass


async def test_a_client_finds_the_server_again(ipc: str, opened: Opened) -> None:
    first, client = ChannelServer(ipc), opened(ChannelClient(ipc))
    await round_trip(first, client)
    first.close()
    second = opened(ChannelServer(ipc))
    async with asyncio.timeout(PATIENCE_S):
        hearing = asyncio.create_task(second.receive())
        while not hearing.done():
            client.send(HELLO)  # the first ones may go down with the old connection
            await asyncio.sleep(0.01)
        assert (await hearing)[1] == HELLO


async def test_strangers_are_not_heard(keys: ClusterKeys, opened: Opened) -> None:
    server = opened(ChannelServer(TCP, keys, "curve"))
    other = ClusterKeys.generate()
    not_a_member = dataclasses.replace(keys, client_public=other.client_public, client_secret=other.client_secret)
    for client in (
        ChannelClient(server.endpoint, not_a_member, "curve"),
        ChannelClient(server.endpoint, other, "curve"),
        ChannelClient(server.endpoint),
    ):
        opened(client).send(Cancel(RequestId("a stranger's")))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await server.receive()
    await round_trip(server, opened(ChannelClient(server.endpoint, keys, "curve")))


async def test_missing_keys_are_named() -> None:
    for make in (ChannelServer, ChannelClient):
        with pytest.raises(KeysError):
            make("tcp://0.0.0.0:4000")


async def test_an_impossible_endpoint_leaves_nothing(keys: ClusterKeys) -> None:
    for make in (ChannelServer, ChannelClient):
        with pytest.raises(zmq.ZMQError):
            make("nonsense", keys, "curve")


async def test_closing_ends_a_waiting_receive(ipc: str) -> None:
    server, client = ChannelServer(ipc), ChannelClient(ipc)
    waiting = [asyncio.create_task(server.receive()), asyncio.create_task(client.receive())]
    await asyncio.sleep(0)
    for end in (server, client):
        end.close()
        end.close()
    results = await soon(asyncio.gather(*waiting, return_exceptions=True))
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
