"""One image of a request: taken out of its data URL and judged, header first. What is well here is well for an engine,
which decodes the same bytes with the same library. Runs in threads.
"""

import base64
import binascii
import io
import re
from dataclasses import dataclass

from PIL import Image

from chiasm.config import GatewayConfig
from chiasm.gateway.errors import ApiError, invalid

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
"""Their headers tell what they cost (see docs/decisions.md). Engines would take more."""

MAX_SCANS = 100
"""Of one JPEG. A progressive one has about ten; each costs a pass over all pixels, and hardly a byte."""

MAX_READS = 50_000
"""Of one file by Pillow, which goes through its pieces in Python, of which a gateway has one for all requests. Each
segment of a JPEG is read in four parts and each chunk of a PNG in three, of which twenty megabytes have 2,500."""

MAX_COSTLY = 100
"""Pieces that may cost Pillow far more than their reads: it inflates a profile or a text of a PNG to a megabyte, adds
each piece of a JPEG's Exif to all before, and keeps whatever it finds in Photoshop's and in frame headers."""

_COSTLY = (b"iCCP", b"zTXt", b"iTXt", b"Exif\0\0", b"Photoshop 3.0\0")
_COSTLY_FRAME = re.compile(  # a frame header of a JPEG that is longer than any has to be, and that Pillow takes
    rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf][^\x00].\x08....[\x01\x03\x04]", re.DOTALL
)

_JPEG_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # markers that begin one; the others stand in the data
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

_DATA_URL = re.compile(r"data:image/[\w.+-]{1,64};base64,")
_FORMATS_NAMED = ", ".join(FORMATS)
_READS = f"about {MAX_READS // 4} segments of a JPEG or {MAX_READS // 3} chunks of a PNG are read"


@dataclass(frozen=True)
class ImageFile:
    """An encoded image. `width` and `height` are those before any rotation that EXIF asks for."""

    data: bytes
    format: str  # Pillow's name for it
    width: int
    height: int
    param: str  # its place in the request, for errors


def read_data_url(url: str, config: GatewayConfig, param: str) -> bytes:
    """The file in a data URL; `param` is its place in the request, for the error.

    Raises:
        ApiError: 400; no data URL of an image, not base64, or too large.
    """
    head = _DATA_URL.match(url)
    if head is None:
        instead = " or an http(s) address" if config.allowed_media_domains else ""
        raise invalid(f"{param} must be a data URL of an image{instead}: data:image/png;base64,...", param)
    limit = config.max_item_bytes
    # Judged by its length before it is decoded: base64 is four thirds of the file.
    if (len(url) - head.end()) // 4 * 3 > limit + 2:
        raise _too_large(limit, param)
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"{param} is not valid base64 ({error}). Encode the file again, with padding and without line breaks."
        raise invalid(message, param) from error
    if len(data) > limit:
        raise _too_large(limit, param)
    return data


def open_image(data: bytes, config: GatewayConfig, param: str) -> ImageFile:
    """The image in a file, as its header has it; what follows has yet to be judged by `decode`.

    Raises:
        ApiError: 400; not an image of a format served here, or beyond a limit.
    """
    # By their names alone: in other data each is there by chance once in a hundred megabytes, or more rarely.
    if sum(map(data.count, _COSTLY)) + len(_COSTLY_FRAME.findall(data)) > MAX_COSTLY:
        raise _too_many_pieces(param, f"{MAX_COSTLY} profiles, compressed texts or the like are read")
    try:
        image = Image.open(_File(data, param), formats=FORMATS)
    except ApiError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(config, param) from error
    except Exception as error:  # Pillow's parsers meet hostile bytes with whatever exception the bytes provoke
        raise invalid(
            f"{param} is no readable image. Send a complete file of one of the formats {_FORMATS_NAMED}.", param
        ) from error
    with image:
        width, height = image.size
        if min(width, height) < 1:
            raise invalid(f"{param} has no pixels ({width} x {height}). Send another image.", param)
        if width * height > config.max_item_pixels:
            raise _too_many_pixels(config, param, f": {width} x {height}")
        if image.format in ("JPEG", "MPO"):
            _check_scans(data, param)
        return ImageFile(data, image.format or FORMATS[0], width, height, param)


def decode(file: ImageFile) -> None:
    """Read the first frame, all that an engine sees, to its end. Nothing cheaper tells a whole file from a part.

    Raises:
        ApiError: 400; the file is not complete, or damaged.
    """
    try:
        if file.format == "PNG":
            with Image.open(_File(file.data, file.param), formats=FORMATS) as image:
                image.verify()  # the chunks to the last, and their checksums; leaves an image that cannot be read
        with Image.open(_File(file.data, file.param), formats=FORMATS) as image:
            if file.format == "JPEG":
                eighth = (max(1, file.width // 8), max(1, file.height // 8))
                image.draft(None, eighth)  # all of the file, few of the pixels
            image.load()
    except ApiError:
        raise
    except Exception as error:
        raise invalid(f"{file.param} is truncated or damaged. Send the complete file.", file.param) from error


class _File(io.BytesIO):
    """A file that Pillow may read so many times. Pixels it reads by the block, headers by the byte."""

    def __init__(self, data: bytes, param: str) -> None:
        super().__init__(data)
        self._param = param
        self._left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise _too_many_pieces(self._param, _READS)
        return super().read(size)


def _check_scans(data: bytes, param: str) -> None:
    """Count the scans of the first picture in a JPEG file: its markers are followed as in ITU-T T.81, annex B."""
    scans, position = 0, 2
    for _ in range(MAX_READS):
        marker = _JPEG_SEGMENT.search(data, position)
        if marker is None or (kind := marker[0][1]) == _END_OF_IMAGE:
            return
        scans += kind == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise invalid(f"{param} has more than {MAX_SCANS} scans. Save it as an ordinary JPEG.", param)
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    raise _too_many_pieces(param, _READS)


def _too_many_pieces(param: str, allowed: str) -> ApiError:
    return invalid(f"{param} is made of too many pieces ({allowed}). Save it anew as an image.", param)


def _too_large(limit: int, param: str) -> ApiError:
    return invalid(f"{param} is larger than the {limit} bytes allowed. Send a smaller file.", param)


def _too_many_pixels(config: GatewayConfig, param: str, size: str = "") -> ApiError:
    return invalid(
        f"{param} has more than the {config.max_item_pixels} pixels allowed{size}. Send a smaller image.", param
    )
