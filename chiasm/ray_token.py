"""A token for the Ray that Chiasm runs on one machine. It must not import Ray, which reads these when imported."""

import os
import secrets


def use_own_token() -> None:
    """Let nobody else speak to the Ray of this process: whoever may, can run anything on it. To be called first.

    The token is in the environment of this process and its children, and in no file.
    """
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
