"""From the images that a request names to the items that the scheduler places: read, judged and identified. Runs in a
thread, and is the only place where a client's images are decoded.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from PIL import Image

from chiasm.config import GatewayConfig
from chiasm.gateway.errors import invalid, prompt_too_long
from chiasm.gateway.fetching import is_web_address
from chiasm.gateway.identity import item_uuid
from chiasm.gateway.image_tokens import MAX_ASPECT
from chiasm.gateway.media import ImageFile, read_data_url, read_image
from chiasm.gateway.messages import ImagePlace
from chiasm.gateway.parsing import Draft, MediaPart, ParsedRequest, ServingFacts
from chiasm.nouns import ItemUuid


def web_addresses(images: Iterable[ImagePlace]) -> dict[str, str]:
    """The addresses among the images' URLs, each with the place where it first stands."""
    found: dict[str, str] = {}
    for image in images:
        if is_web_address(image.url):
            found.setdefault(image.url, image.param)
    return found


def identify(
    draft: Draft, fetched: Mapping[str, bytes], facts: ServingFacts, config: GatewayConfig, tenant: str
) -> ParsedRequest:
    """The request with its images read; `fetched` has what lies at its web addresses.

    `tenant` tells whose cache the images may use. An item's identity is made of its bytes, wherever they came from.

    Raises:
        ApiError: 400; an image is none, is beyond a limit, or the images do not fit in the model's context.
    """
    reader = _Reader(draft, fetched, facts, config, tenant)
    known: dict[str, _Known] = {}  # an image repeated in one prompt is read once
    for place in draft.images:
        if place.url not in known:
            known[place.url] = reader.read(place)
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


@dataclass(frozen=True)
class _Reader:
    """Reads the images of one request."""

    draft: Draft
    fetched: Mapping[str, bytes]
    facts: ServingFacts
    config: GatewayConfig
    tenant: str

    def read(self, place: ImagePlace) -> _Known:
        data = self.fetched.get(place.url)
        url = place.url
        if data is None:
            data = read_data_url(url, self.config, place.param)
        image = read_image(data, self.config, place.param)
        if place.url in self.fetched:
            url = _as_data_url(image)
        options = self.draft.request.options
        scope = "shared" if self.config.cache_scope == "shared" else f"tenant {self.tenant}"
        return _Known(
            uuid=item_uuid(scope, self.facts.model_revision, data, options),
            url=url,
            tokens=self.facts.estimate_image(image.width, image.height),
            # Options may change what becomes of an image; then the engine is asked.
            fewest=0 if options else self._fewest_tokens(image, place.param),
        )

    def _fewest_tokens(self, image: ImageFile, param: str) -> int:
        short, long = sorted((image.width, image.height))
        if self.facts.image_pixels is not None and long > MAX_ASPECT * short:
            raise invalid(
                f"{param} is {image.width} x {image.height}; this model takes no image that is more than {MAX_ASPECT} "
                "times as long as it is wide. Crop it, or scale one side.",
                param,
            )
        return self.facts.fewest_of(image.width, image.height)


def _as_data_url(image: ImageFile) -> str:
    return f"data:{Image.MIME.get(image.format, 'image/png')};base64,{base64.b64encode(image.data).decode()}"
