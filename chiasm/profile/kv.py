"""`chiasm profile --kv`: what a request takes of the engines' KV caches, by the size of its image."""

from rich.console import Console
from rich.table import Table

from chiasm.nouns import WorkerId
from chiasm.profile.machines import ask_machines
from chiasm.telemetry.live.kv_room import kv_room, kv_token_bytes
from chiasm.telemetry.live.machine import Machine, Machines

SIZES = ((224, 224), (448, 448), (672, 672), (1008, 1008), (1280, 720), (1920, 1080), (2016, 2016), (3840, 2160))
TEXT_TOKENS = 128
ANSWER_TOKENS = 128


def kv(endpoint: str, api_key: str | None, console: Console) -> None:
    """Print it.

    Raises:
        EndpointError: the gateway does not answer, or answers an error.
    """
    show(ask_machines(endpoint, api_key), console)


def show(asked: Machines, console: Console) -> None:
    """A table for each kind of KV cache that the engines have."""
    for name, reason in asked.silent.items():
        console.print(f"{name} is left out: it does not tell what it runs on: {reason}", markup=False)
    kinds: dict[tuple[int, ...], list[WorkerId]] = {}
    for name, machine in asked.machines.items():
        if machine.kv_blocks:
            kind = (machine.kv_blocks, machine.kv_block_tokens, kv_token_bytes(machine))
            kinds.setdefault(kind, []).append(name)
    for (blocks, block_tokens, token_bytes), names in kinds.items():
        tokens = blocks * block_tokens
        console.print(
            f"KV cache of {', '.join(names)}: {_size(tokens * token_bytes)}, {tokens:,} tokens of {token_bytes:,} "
            f"bytes, in blocks of {block_tokens} tokens",
            markup=False,
        )
        console.print(_table(asked, asked.machines[names[0]]))
    console.print(
        f"A request: the image, {TEXT_TOKENS} tokens of text and an answer of {ANSWER_TOKENS}, at its end, in blocks."
    )


def _table(asked: Machines, machine: Machine) -> Table:
    table = Table()
    for column in ("image", "image tokens", "their KV bytes", "KV bytes of a request", "such requests at once"):
        table.add_column(column, justify="right")
    for width, height in SIZES:
        image = asked.images.estimate(width, height)
        room = kv_room(machine, image + TEXT_TOKENS, ANSWER_TOKENS)
        table.add_row(
            f"{width} x {height}",
            f"{image:,}",
            _size(image * kv_token_bytes(machine)),
            _size(room.nbytes),
            f"{room.requests:,}",
        )
    return table


def _size(nbytes: float) -> str:
    return f"{nbytes / 1e9:.3g} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.3g} MB"
