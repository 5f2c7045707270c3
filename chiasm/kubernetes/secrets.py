"""The Secrets that the manifests count on, with new keys in them. They are for kubectl's standard input, and no file.

Two more come from elsewhere: KubeRay makes Ray's token, and `chiasm serve` makes the CURVE keys and the engines' token
when it starts, and hands them to its actors alone.
"""

import secrets

from chiasm.kubernetes.names import KEYS_FILE, KEYS_SECRET, REDIS_SECRET, Object, metadata


def new_secrets(namespace: str) -> list[Object]:
    """A Secret for Redis' password, and one with a key for clients and one for operators."""
    keys = f"api_keys: [{secrets.token_urlsafe(32)}]\noperator_keys: [{secrets.token_urlsafe(32)}]\n"
    return [
        _secret(REDIS_SECRET, namespace, {"password": secrets.token_urlsafe(32)}),
        _secret(KEYS_SECRET, namespace, {KEYS_FILE: keys}),
    ]


def _secret(name: str, namespace: str, data: dict[str, str]) -> Object:
    named: dict[str, object] = {"namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {**named, **metadata(name, "secrets")},
        "type": "Opaque",
        "stringData": data,
    }
