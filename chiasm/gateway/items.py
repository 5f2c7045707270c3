"""From the images that a request names to the items that the scheduler places: opened, judged by their headers, and
identified. Runs in threads.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from PIL import Image

from chiasm.config import GatewayConfig
from chiasm.gateway.errors import invalid, prompt_too_long
from chiasm.gateway.fetching import is_web_address
from chiasm.gateway.identity import item_uuid
from chiasm.gateway.media import ImageFile, open_image, read_data_url
from chiasm.gateway.messages import ImagePlace
from chiasm.gateway.parsing import Draft, MediaPart, ParsedRequest, ServingFacts
from chiasm.image_tokens import MAX_ASPECT
from chiasm.nouns import ItemUuid


def web_addresses(images: Iterable[ImagePlace]) -> dict[str, str]:
    """The addresses among the images' URLs, each with the place where it first stands."""
    found: dict[str, str] = {}
    for image in images:
        if is_web_address(image.url):
            found.setdefault(image.url, image.param)
    return found


def open_images(draft: Draft, fetched: Mapping[str, bytes], config: GatewayConfig) -> dict[str, ImageFile]:
    """The images of a request by their URLs, each once; `fetched` has what lies at the web addresses.

    Raises:
        ApiError: 400; an image is none, or is beyond a limit.
    """
    files: dict[str, ImageFile] = {}
    for place in draft.images:
        if place.url not in files:
            data = fetched.get(place.url)
            if data is None:
                data = read_data_url(place.url, config, place.param)
            files[place.url] = open_image(data, config, place.param)
    return files


def identify(
    draft: Draft, files: Mapping[str, ImageFile], facts: ServingFacts, config: GatewayConfig, tenant: str
) -> ParsedRequest:
    """The request with its images, which `files` has by their URLs.

    `tenant` tells whose cache the images may use. An item's identity is made of its bytes, wherever they came from.

    Raises:
        ApiError: 400; the model takes no image of such a shape, or the images do not fit in its context.
    """
    options = draft.request.options
    scope = "shared" if config.cache_scope == "shared" else f"tenant {tenant}"
    known: dict[str, _Known] = {}
    for url, file in files.items():
        known[url] = _Known(
            uuid=item_uuid(scope, facts.model_revision, file.data, options),
            url=_as_data_url(file) if is_web_address(url) else url,
            tokens=facts.estimate_image(file.width, file.height),
            # Options may change what becomes of an image; then the engine is asked.
            fewest=0 if options else _fewest_tokens(file, facts),
        )
    images = [known[place.url] for place in draft.images]
    if (fewest := sum(image.fewest for image in images)) >= facts.max_model_len:
        raise prompt_too_long(f"The request's images have {fewest} tokens or more", facts.max_model_len)
    media = (
        MediaPart(place.message, place.part, image.uuid, image.url, image.tokens)
        for place, image in zip(draft.images, images, strict=True)
    )
    return replace(draft.request, media=tuple(media))


@dataclass(frozen=True)
class _Known:
    uuid: ItemUuid
    url: str
    tokens: int  # estimated
    fewest: int  # certain


def _fewest_tokens(image: ImageFile, facts: ServingFacts) -> int:
    short, long = sorted((image.width, image.height))
    if facts.image_pixels is not None and long > MAX_ASPECT * short:
        raise invalid(
            f"{image.param} is {image.width} x {image.height}; this model takes no image that is more than "
            f"{MAX_ASPECT} times as long as it is wide. Crop it, or scale one side.",
            image.param,
        )
    return facts.fewest_of(image.width, image.height)


def _as_data_url(image: ImageFile) -> str:
    return f"data:{Image.MIME.get(image.format, 'image/png')};base64,{base64.b64encode(image.data).decode()}"
