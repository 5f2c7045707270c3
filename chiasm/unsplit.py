"""The unsplit engine that a split cluster is compared with."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from chiasm.engine import Engine, EngineSpec
from chiasm.nouns import Role


@contextmanager
def unsplit_engine(model: str, served_name: str, args: Sequence[str]) -> Iterator[Engine]:
    """One stock vLLM server with both halves of the model, for as long as the context lasts.

    It is still starting: see `Engine.wait_ready`.
    """
    spec = EngineSpec("whole", Role.WHOLE, model, served_name, secrets.token_urlsafe(16), args=tuple(args))
    engine = Engine(spec, log=lambda _line: None)
    try:
        yield engine
    finally:
        engine.stop()
