"""The sizes of the network, and of what it sees."""

from dataclasses import dataclass

PATCH, MERGE = 14, 2
CELL = PATCH * MERGE  # pixels a side of one image token
CHANNELS = 3


@dataclass(frozen=True)
class Shape:
    """The sizes of the network."""

    vision_layers: int = 5
    vision_width: int = 192
    vision_mlp: int = 320
    text_layers: int = 5
    width: int = 192
    mlp: int = 384
    heads: int = 6  # in both halves
    kv_heads: int = 3
    vocabulary: int = 768
    # Conversations are short, so neighbours must be told apart; yet some frequencies must be so low that a word finds
    # what it means at any distance. With a base of 20 none was, and shapes were not found by their names.
    rope_theta: float = 1000.0
    mrope_section: tuple[int, int, int] = (4, 6, 6)

    @property
    def head(self) -> int:
        """Numbers in one attention head."""
        return self.width // self.heads


VISION_THETA = 10_000.0  # vLLM knows no other for this architecture
