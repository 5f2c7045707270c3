"""What a request takes of an engine's KV cache. Pure.

`2 * layers * KV heads * head size` numbers for each token of prompt and answer (`chiasm.footprint`), in whole blocks.
An image's tokens are the prompt's, and stay until the answer is complete.
"""

from dataclasses import dataclass

from chiasm.footprint import footprint
from chiasm.telemetry.live.machine import Machine


@dataclass(frozen=True)
class KvRoom:
    """Of one request, with so many tokens in the cache."""

    tokens: int
    blocks: int
    nbytes: int  # of those blocks, on all cards of the engine together
    requests: int  # like it, that fit into the cache at once


def kv_token_bytes(machine: Machine) -> int:
    """Bytes of one token in the engine's KV cache."""
    return footprint(machine.config, machine.kv_value_bytes).kv


def kv_room(machine: Machine, prompt_tokens: int, answer_tokens: int = 0) -> KvRoom:
    """Of a request with such a prompt, when it has so much of its answer. An answer's last token is not kept."""
    tokens = prompt_tokens + max(0, answer_tokens - 1)
    blocks = -(-tokens // machine.kv_block_tokens)
    nbytes = blocks * machine.kv_block_tokens * kv_token_bytes(machine)
    return KvRoom(tokens, blocks, nbytes, machine.kv_blocks // max(1, blocks))
