"""The cluster's CURVE keys: when a connection must be encrypted, and who is let in.

One server pair and one client pair serve a whole cluster: holding the client secret is membership. Owns no socket; it
sets options on the sockets of others. Must not import the rest of `chiasm.wire`.
"""

import ipaddress
import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

log = logging.getLogger(__name__)

Policy = Literal["auto", "curve"]
"""`auto` encrypts whatever leaves the machine, `curve` encrypts everything."""

ZAP_DOMAIN = "chiasm"
Z85_KEY_CHARS = 40


class KeysError(ValueError):
    """The cluster's keys are missing, unreadable, damaged, or readable by others."""


@dataclass(frozen=True)
class ClusterKeys:
    """The two CURVE key pairs of a cluster, each key as 40 characters of Z85."""

    server_public: str
    server_secret: str = field(repr=False)
    client_public: str
    client_secret: str = field(repr=False)

    def __post_init__(self) -> None:
        pairs = ((self.server_public, self.server_secret), (self.client_public, self.client_secret))
        for public, secret in pairs:
            if not len(public) == len(secret) == Z85_KEY_CHARS or _public_of(secret) != public:
                raise KeysError("a public key of the cluster does not belong to its secret key")

    @classmethod
    def generate(cls) -> "ClusterKeys":
        """Two fresh pairs."""
        server_public, server_secret = zmq.curve_keypair()
        client_public, client_secret = zmq.curve_keypair()
        return cls(
            server_public=server_public.decode(),
            server_secret=server_secret.decode(),
            client_public=client_public.decode(),
            client_secret=client_secret.decode(),
        )

    def save(self, path: Path) -> None:
        """Write the keys as JSON that only this user can read, replacing the file in one step.

        Raises:
            OSError: the folder cannot be written to.
        """
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(self))
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> "ClusterKeys":
        """Read what `save` wrote.

        Raises:
            KeysError: unreadable, not a key file, or open to group or others.
        """
        try:
            with path.open("rb") as file:
                # Asked of the open file, so that it cannot be exchanged between the question and the reading.
                mode = os.fstat(file.fileno()).st_mode & 0o777
                data = file.read()
        except OSError as error:
            raise KeysError(f"cannot read the cluster keys: {error}") from error
        if mode & 0o077:
            raise KeysError(f"{path} has mode {mode:04o}: others may read the cluster keys; run `chmod 600 {path}`")
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise KeysError(f"{path} is not a file of cluster keys: {error}") from error


def _public_of(secret: str) -> str | None:
    try:
        return zmq.curve_public(secret.encode()).decode()
    except (zmq.ZMQError, UnicodeEncodeError, ValueError):
        return None


def needs_curve(endpoint: str) -> bool:
    """Whether bytes sent to this endpoint may leave the machine: False only for ipc, inproc and loopback tcp."""
    transport, _, address = endpoint.partition("://")
    if transport in ("ipc", "inproc"):
        return False
    host = address.rpartition(":")[0].strip("[]")
    if transport != "tcp" or not host:
        return True
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def required_keys(endpoint: str, keys: ClusterKeys | None, policy: Policy) -> ClusterKeys | None:
    """The keys to use on this endpoint, None for a plain connection. Both ends ask this and agree.

    Raises:
        KeysError: the connection must be encrypted and there are no keys.
    """
    if policy == "auto" and not needs_curve(endpoint):
        return None
    if keys is None:
        why = "security is set to curve" if policy == "curve" else "it may leave this machine"
        raise KeysError(f"{endpoint} must be encrypted ({why}), and no cluster keys were given")
    return keys


def secure_server(socket: "zmq.Socket[Any]", keys: ClusterKeys) -> None:
    """Make `socket` a CURVE server; to be called before it binds, and while `authenticate` serves its context."""
    socket.curve_server = True
    socket.curve_secretkey = keys.server_secret.encode()
    socket.curve_publickey = keys.server_public.encode()
    socket.zap_domain = ZAP_DOMAIN.encode()
    # Without this libzmq admits every client for as long as no authenticator is running.
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def secure_client(socket: "zmq.Socket[Any]", keys: ClusterKeys) -> None:
    """Make `socket` a CURVE client of the cluster; to be called before it connects."""
    socket.curve_serverkey = keys.server_public.encode()
    socket.curve_publickey = keys.client_public.encode()
    socket.curve_secretkey = keys.client_secret.encode()


class _MembersOnly:
    """The credentials provider that pyzmq asks about every client's public key."""

    def __init__(self, keys: ClusterKeys) -> None:
        self._member = keys.client_public.encode()

    def callback(self, domain: str, key: bytes) -> bool:
        admitted = domain == ZAP_DOMAIN and key == self._member
        if not admitted:
            log.warning("refused a client with the unknown key %s", key.decode())
        return admitted


def authenticate(context: "zmq.Context[Any]", keys: ClusterKeys) -> ThreadAuthenticator:
    """Start the one authenticator that `context` may have; the caller stops it after closing its sockets."""
    authenticator = ThreadAuthenticator(context)
    authenticator.configure_curve_callback(ZAP_DOMAIN, _MembersOnly(keys))
    authenticator.start()
    return authenticator
