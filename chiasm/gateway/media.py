"""One image of a request: taken out of its data URL and judged by its header, never decoded. Runs in a thread."""

import base64
import binascii
import io
import re
from dataclasses import dataclass

from PIL import Image

from chiasm.config import GatewayConfig
from chiasm.gateway.errors import ApiError, invalid

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_DATA_URL = re.compile(r"data:image/[\w.+-]{1,64};base64,")


@dataclass(frozen=True)
class ImageFile:
    """An encoded image whose header has been read."""

    data: bytes
    width: int
    height: int


def read_image(url: str, config: GatewayConfig, param: str) -> ImageFile:
    """The image in a data URL; `param` is its place in the request, for the error.

    Raises:
        ApiError: 400; no data URL, not an image of a format served here, truncated, or beyond a limit.
    """
    data = _payload(url, config.max_item_bytes, param)
    try:
        width, height = _size(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels(config.max_item_pixels, param) from error
    except Exception as error:  # Pillow's parsers meet hostile bytes with whatever exception the bytes provoke
        raise invalid(
            f"{param} is no readable image. Send a complete file of one of the formats {', '.join(FORMATS)}.", param
        ) from error
    if width * height > config.max_item_pixels:
        raise _too_many_pixels(config.max_item_pixels, param)
    if _truncated(data):
        raise invalid(f"{param} is truncated. Send the complete file.", param)
    return ImageFile(data, width, height)


def _size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if image.format == "PNG":
            image.verify()  # walks the chunks and their checksums without inflating them
        return width, height


def _payload(url: str, limit: int, param: str) -> bytes:
    if url[:8].lower().startswith(("http://", "https://")):
        raise invalid(
            f"{param} is a web address, which this server does not fetch. "
            "Send the image itself as a data URL: data:image/png;base64,...",
            param,
        )
    head = _DATA_URL.match(url)
    if head is None:
        raise invalid(f"{param} must be a data URL of an image: data:image/png;base64,...", param)
    # Judged by its length before it is decoded: base64 is four thirds of the file.
    if (len(url) - head.end()) // 4 * 3 > limit + 2:
        raise invalid(f"{param} is larger than the {limit} bytes allowed. Send a smaller file.", param)
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"{param} is not valid base64 ({error}). Encode the file again.", param) from error
    if len(data) > limit:
        raise invalid(f"{param} is larger than the {limit} bytes allowed. Send a smaller file.", param)
    return data


def _too_many_pixels(limit: int, param: str) -> ApiError:
    return invalid(f"{param} has more than the {limit} pixels allowed. Send a smaller image.", param)


def _truncated(data: bytes) -> bool:
    # PNG has been verified; GIF has no cheap sign. What slips through is refused by the encoder.
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data  # anywhere: cameras append data of their own behind the image
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False
