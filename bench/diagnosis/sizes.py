"""What pictures the user's clients send, and how many a request: named, or found in a file of recorded requests."""

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from PIL import Image

from bench.load.recorded import Recorded
from bench.load.workloads import BadWorkload
from bench.percentiles import percentile

Size = tuple[int, int]
"""Width and height in pixels."""

_SIZE = re.compile(r"(\d+)x(\d+)", re.IGNORECASE)
UNTOLD = ((336, 336), (672, 672), (1008, 1008))
MOST = 6  # sizes that are taken of a file
LEAST_SIDE, GREATEST_SIDE = 16, 16_384  # pixels
MANY = 0.95  # of the requests with pictures have no more of them than the one that is judged


@dataclass(frozen=True)
class Sent:
    """What clients send."""

    sizes: tuple[Size, ...]  # the smallest first, by pixels; at least one
    told: bool  # by the user, and not only supposed
    per_request: int = 1  # pictures, of which a request may have so many
    pictures: int = 0  # in the file; 0 without one
    again: tuple[int, ...] = ()  # for each of these that had come before, how many others came since
    unseen: int = 0  # of these, how many are addresses, whose sizes nobody has looked up


def sizes_option(_context: click.Context, _parameter: click.Parameter, given: str | None) -> tuple[Size, ...]:
    """`448x448,1344x896`, as an option's callback.

    Raises:
        BadParameter: it is no such list, or a size cannot be that of a picture.
    """
    if given is None:
        return ()
    found = [_SIZE.fullmatch(each.strip()) for each in given.split(",")]
    sizes = [(int(each[1]), int(each[2])) for each in found if each]
    if len(sizes) != len(found):
        raise click.BadParameter(f"{given!r} is no list of sizes. Write them like 448x448,1344x896.")
    for side in (side for size in sizes for side in size):
        if not LEAST_SIDE <= side <= GREATEST_SIDE:
            raise click.BadParameter(f"a side of {side} pixels is not between {LEAST_SIDE} and {GREATEST_SIDE}.")
    return tuple(sizes)


def named(sizes: Sequence[Size], per_request: int) -> Sent:
    """Those that the user names; if none, some that are usual."""
    return Sent(_in_order(sizes or UNTOLD), bool(sizes), per_request)


def recorded(path: Path) -> Sent:
    """Those of a file of recorded requests: all of them, or a few that are spread evenly over the pictures by size. A
    request has as many as all but the most crowded twentieth of those with pictures.

    Raises:
        BadWorkload: the file cannot be read, or has no picture whose size can be told.
    """
    requests = [list(_urls(body)) for _, body in Recorded(path).in_order()]
    urls = [url for each in requests for url in each]
    seen = [size for url in urls if (size := _size(url)) is not None]
    if not seen:
        raise BadWorkload(
            f"{path} has no picture whose size can be told: {len(urls)} are addresses or unreadable. "
            "Put the pictures into the file, or name sizes: --sizes 448x448,1344x896"
        )
    ordered = sorted(seen, key=_pixels)
    spread = [ordered[round(step * (len(ordered) - 1) / (MOST - 1))] for step in range(MOST)]
    sizes = set(seen) if len(set(seen)) <= MOST else set(spread)
    return Sent(
        sizes=_in_order(sizes),
        told=True,
        per_request=int(percentile([len(each) for each in requests if each], MANY)),
        pictures=len(urls),
        again=tuple(_again(urls)),
        unseen=len(urls) - len(seen),
    )


def _again(urls: Sequence[str]) -> Iterator[int]:
    recent: list[int] = []  # the one that was last seen comes last
    for url in map(hash, urls):
        if url in recent:
            since = recent.index(url)
            yield len(recent) - since - 1
            del recent[since]
        recent.append(url)


def _pixels(size: Size) -> int:
    return size[0] * size[1]


def _in_order(sizes: Sequence[Size] | set[Size]) -> tuple[Size, ...]:
    return tuple(sorted(set(sizes), key=lambda size: (_pixels(size), size)))


def _urls(body: Mapping[str, Any]) -> Iterator[str]:
    for message in body["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") == "image_url":
                image = part.get("image_url")
                yield str(image.get("url") if isinstance(image, dict) else image)


def _size(url: str) -> Size | None:
    if not url.startswith("data:"):
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as opened:
            return opened.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
