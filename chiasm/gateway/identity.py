"""The identity of one item of media: what makes two embeddings interchangeable, and nothing else. A URL or a name that
a client chose is no part of it, or one client could have its embedding served to another.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from blake3 import blake3

from chiasm.nouns import ItemUuid


def item_uuid(cache_scope: str, model_revision: str, media: bytes, options: Mapping[str, Any]) -> ItemUuid:
    """The identity of `media` under these circumstances: 64 hexadecimal digits.

    `options` are the request's processor options (JSON values); their order does not matter.
    """
    digest = blake3()
    canonical = msgspec.json.encode(options, order="deterministic")
    for field in (cache_scope.encode(), model_revision.encode(), media, canonical):
        # With its length in front, no field can pass for the end of another.
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    return ItemUuid(digest.hexdigest())
