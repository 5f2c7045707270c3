"""From a client's bytes to a request that may be submitted: received, parsed, its images fetched and decoded. All that
happens before the scheduler's queue has a bound of its own here, beyond which a request is sent away with 429.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from aiohttp import web

from chiasm.config import GatewayConfig
from chiasm.gateway.errors import ApiError, deadline_exceeded, invalid
from chiasm.gateway.fetching import Fetcher
from chiasm.gateway.items import identify, open_images, web_addresses
from chiasm.gateway.media import decode
from chiasm.gateway.parsing import Draft, ParsedRequest, ServingFacts
from chiasm.gateway.shares import Shares, Take, Threads

THREADS = min(8, os.cpu_count() or 1)
"""That decode images: each may hold `max_item_pixels` pixels of 4 bytes, and more would not be faster. As many others
parse, so that a text does not wait while images are decoded."""

PIXELS_AT_ONCE = 4_000_000_000
"""Of images that wait to be decoded, or are. A core decodes 20 to 40 million pixels of a PNG in a second: the half of
these that one API key may have waiting take two cores about a minute, and are 2,000 images of a million pixels."""

LEAST_BYTES = 64 << 10
"""That a request counts for, however small: each has a connection and its buffers, so their number is bounded too."""

VALUE_SIGNS = (b"{", b"[", b",")
"""What a value of JSON has one or two of, and base64 none. They also count where they stand in a text."""

VALUE_BYTES = 128
"""That one of them counts for: what is decoded of a body is held until the answer has ended, and was seen to take 32
bytes a sign where it is numbers, and up to 125 where it is objects in objects."""

MAX_VALUE_SIGNS = 200_000
"""In one body, or twice the model's context where that is more: a prompt may be token ids. So many take half a second
of Python, of which a gateway has one for all requests; a chat has thousands."""

Parse = Callable[[bytes, ServingFacts, GatewayConfig], Draft]


class Reader:
    """Reads the requests of one gateway. To be closed."""

    def __init__(self, facts: ServingFacts, config: GatewayConfig, fetcher: Fetcher) -> None:
        self._facts = facts
        self._config = config
        self._fetcher = fetcher
        self._most_signs = max(MAX_VALUE_SIGNS, 2 * facts.max_model_len)
        # However much is allowed in one request, two of them must fit, so that one tenant's half is one.
        most = config.max_body_bytes
        decoded = most + min(self._most_signs, most) * VALUE_BYTES
        held = max(config.max_held_bytes, 2 * (max(LEAST_BYTES, decoded) + most))  # fetched images are as much again
        self._bytes = Shares(held, "This server holds as many bytes of requests as it may")
        pixels = max(PIXELS_AT_ONCE, 2 * config.max_items * config.max_item_pixels)
        self._pixels = Shares(pixels, "As many images wait to be read as may wait here")
        self._parsing = Threads(THREADS, "parsing")
        self._decoding = Threads(THREADS, "images")

    def close(self) -> None:
        """End the threads, each with the body or the image that it is at."""
        self._parsing.close()
        self._decoding.close()

    def room(self, tenant: str) -> AbstractContextManager[Take]:
        """Room for the bytes of one request, which it holds until it has ended."""
        return self._bytes.share(tenant)

    async def read(self, request: web.Request, parse: Parse, tenant: str, take: Take, deadline: float) -> ParsedRequest:
        """The request, by `deadline` (of the event loop's clock); its bytes are taken from its room as they arrive.

        Raises:
            ApiError: it is not to be served, or not now (429).
        """
        body = await self._receive(request, take, deadline)
        try:
            async with asyncio.timeout_at(deadline):
                draft = await self._parsing.run(tenant, parse, body, self._facts, self._config)
                del body  # all of it is in the draft now, and its images may have to wait
                fetched: dict[str, bytes] = {}
                if addresses := web_addresses(draft.images):
                    fetched = await self._fetcher.fetch(addresses, tenant, take)
                return await self._with_images(draft, fetched, tenant) if draft.images else draft.request
        except TimeoutError as error:
            raise deadline_exceeded("The request could not be read in time") from error

    async def _receive(self, request: web.Request, take: Take, deadline: float) -> bytes:
        limit = self._config.max_body_bytes
        chunks: list[bytes] = []
        received, signs, taken = 0, 0, LEAST_BYTES
        take(taken)
        try:
            async with asyncio.timeout_at(deadline):
                async for chunk in request.content.iter_any():  # unpacked, if it was packed
                    received += len(chunk)
                    if received > limit:
                        message = f"The body is larger than the {limit} bytes allowed. Send less in one request."
                        raise ApiError(413, message, code="body_too_large")
                    signs += sum(map(chunk.count, VALUE_SIGNS))
                    if signs > self._most_signs:
                        message = f"The body has more than {self._most_signs} values, counted by its signs {{ [ and ,"
                        raise invalid(f"{message}. Send less in one request.", code="body_too_large")
                    held = received + signs * VALUE_BYTES
                    if held > taken:
                        take(held - taken)
                        taken = held
                    chunks.append(chunk)
        except TimeoutError as error:
            raise ApiError(408, "The body did not arrive in time. Send it again.", code="body_too_slow") from error
        except web.RequestPayloadError as error:
            raise invalid("The body is not in the encoding that its headers name. Send it plain.") from error
        return b"".join(chunks)

    async def _with_images(self, draft: Draft, fetched: dict[str, bytes], tenant: str) -> ParsedRequest:
        files = await self._parsing.run(tenant, open_images, draft, fetched, self._config)
        parsed = await self._parsing.run(tenant, identify, draft, files, self._facts, self._config, tenant)
        with self._pixels.share(tenant) as take:
            take(sum(file.width * file.height for file in files.values()))
            for file in files.values():
                await self._decoding.run(tenant, decode, file)
        return parsed
