import dataclasses
from pathlib import Path

import pytest
import zmq

from chiasm.wire.keys import ClusterKeys, KeysError, needs_curve, required_keys, secure_client, secure_server


def test_saved_keys_come_back_and_only_this_user_may_read_them(tmp_path: Path, keys: ClusterKeys) -> None:
    path = tmp_path / "keys.json"
    keys.save(path)
    assert ClusterKeys.load(path) == keys
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_saving_again_replaces_the_keys(tmp_path: Path, keys: ClusterKeys) -> None:
    path = tmp_path / "keys.json"
    ClusterKeys.generate().save(path)
    keys.save(path)
    assert ClusterKeys.load(path) == keys


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_keys_that_others_may_read_are_refused(tmp_path: Path, keys: ClusterKeys, mode: int) -> None:
    path = tmp_path / "keys.json"
    keys.save(path)
    path.chmod(mode)
    with pytest.raises(KeysError, match="chmod 600"):
        ClusterKeys.load(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"server_public": 1}', b"\xff"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeysError, match="not a file of cluster keys"):
        ClusterKeys.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="cannot read"):
        ClusterKeys.load(tmp_path / "none")


@pytest.mark.parametrize("field", ["server_public", "server_secret", "client_public", "client_secret"])
@pytest.mark.parametrize("value", ["é" * 40, "Q1i$O%d&-Qail*/ZGZB](8p4c@B0vbg%GP8dc:Aq"])
def test_keys_that_do_not_belong_together_are_refused(keys: ClusterKeys, field: str, value: str) -> None:
    with pytest.raises(KeysError, match="does not belong"):
        dataclasses.replace(keys, **{field: value})


def test_secrets_are_not_printed(keys: ClusterKeys) -> None:
    assert keys.server_secret not in repr(keys)
    assert keys.client_secret not in repr(keys)


@pytest.mark.parametrize(
    "endpoint",
    ["ipc:///tmp/x", "inproc://x", "tcp://127.0.0.1:*", "tcp://127.9.9.9:80", "tcp://[::1]:80", "tcp://localhost:1"],
)
def test_what_stays_on_the_machine_may_be_plain(endpoint: str) -> None:
    assert not needs_curve(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:*",
        "tcp://*:80",
        "tcp://10.0.0.7:80",
        "tcp://encoder-0:80",
        "tcp://[::]:80",
        "tcp://[fe80::1]:80",
        "tcp://127.0.0.1.evil.org:80",
        "tcp://10.0.0.7:0;127.0.0.1:80",
        "pgm://127.0.0.1:80",
        "127.0.0.1:80",
        "tcp://",
        "",
    ],
)
def test_everything_else_is_encrypted(endpoint: str) -> None:
    assert needs_curve(endpoint)


def test_both_ends_agree_on_the_keys(keys: ClusterKeys) -> None:
    assert required_keys("ipc:///tmp/x", keys, "auto") is None
    assert required_keys("ipc:///tmp/x", keys, "curve") is keys
    assert required_keys("tcp://10.0.0.7:80", keys, "auto") is keys


@pytest.mark.parametrize(("endpoint", "policy"), [("tcp://10.0.0.7:80", "auto"), ("ipc:///tmp/x", "curve")])
def test_missing_keys_are_named(endpoint: str, policy: str) -> None:
    with pytest.raises(KeysError, match=r"must be encrypted .* no cluster keys"):
        required_keys(endpoint, None, policy)


def test_a_server_without_an_authenticator_admits_nobody(keys: ClusterKeys) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server, context.socket(zmq.DEALER) as member:
        secure_server(server, keys)
        secure_client(member, keys)
        server.linger = member.linger = 0
        member.connect(f"tcp://127.0.0.1:{server.bind_to_random_port('tcp://127.0.0.1')}")
        member.send(b"hello")
        assert not server.poll(100)
