"""Images that a request names by web address: each fetched once, here and nowhere else; engines need no way out.

What a client names is not trusted: the operator lists the hosts, a name's addresses are checked before the connection
is made to one of those very addresses, redirects are followed by the same rules, and time, bytes and concurrency are
bounded. What comes back is bytes, judged like those of any other image.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from yarl import URL

from chiasm import __version__
from chiasm.config import GatewayConfig
from chiasm.gateway.addresses import AllowedHosts, Reach
from chiasm.gateway.errors import MEDIA_FETCH_FAILED, ApiError, invalid
from chiasm.gateway.look_ups import AddressRefused, CheckedResolver, asking
from chiasm.gateway.shares import Take, Turns

FETCHES_AT_ONCE = 16
"""In one gateway; each holds up to `max_item_bytes`. More wait for their turn, which API keys take in rotation."""

FETCHES_OF_ONE_REQUEST = 4
"""At once: the images of one request may all lie at a slow host, and other requests must not wait for that host."""

LOOK_UPS_AT_ONCE = 8 * FETCHES_AT_ONCE
"""A look-up cannot be stopped: one that outlasts its fetch keeps its thread until the system gives up, after about half
a minute. So the half of them that one API key may have is enough for several rounds of fetches."""

REDIRECTS = 3
_REDIRECTING = (301, 302, 303, 307, 308)
_INSTEAD = "Send the image itself as a data URL: data:image/png;base64,..."


def is_web_address(url: str) -> bool:
    """Whether an image's URL is one that would have to be fetched."""
    return url[:8].lower().startswith(("http://", "https://"))


class _Allowance:
    """What one request of a tenant may fetch: so many bytes, all its images together, and a few images at once."""

    def __init__(self, tenant: str, size: int, take: Take) -> None:
        self.tenant = tenant
        self.left = size
        self.take = take
        self.turn = asyncio.Semaphore(FETCHES_OF_ONE_REQUEST)


class Fetcher:
    """Fetches images from the hosts that the configuration allows. A context manager."""

    def __init__(self, config: GatewayConfig, reach: Reach) -> None:
        self._config = config
        self._hosts = AllowedHosts(config.allowed_media_domains)
        self._reach = reach
        self._turns = Turns(FETCHES_AT_ONCE)
        resolver = CheckedResolver(reach, LOOK_UPS_AT_ONCE)
        self._session = ClientSession(
            connector=TCPConnector(limit=0, resolver=resolver, use_dns_cache=False, force_close=True),
            timeout=ClientTimeout(total=None),
            headers={"User-Agent": f"chiasm/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity"},
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,  # or a small answer could become a large one
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def fetch(self, wanted: Mapping[str, str], tenant: str, take: Take) -> dict[str, bytes]:
        """What lies at each of these addresses; their values are their places in the request, for the errors. The
        bytes are taken from the request's room as they arrive, and the fetches have their turn when it is `tenant`'s.

        Raises:
            ApiError: 400 where the address is at fault or not allowed, 424 where its host does not deliver, 429 where
                there is no room for it now.
        """
        allowance = _Allowance(tenant, self._config.max_body_bytes, take)
        tasks = [asyncio.create_task(self._fetch(url, param, allowance)) for url, param in wanted.items()]
        try:
            return dict(zip(wanted, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _fetch(self, address: str, param: str, allowance: _Allowance) -> bytes:
        url = self._checked(address, param)
        asking.set(allowance.tenant)
        async with allowance.turn, self._turns.turn(allowance.tenant):
            try:
                async with asyncio.timeout(self._config.fetch_timeout_s):
                    return await self._follow(url, param, allowance)
            except TimeoutError as error:
                raise _undelivered(
                    param, f"{url.raw_host} did not deliver it within {self._config.fetch_timeout_s:g} s"
                ) from error
            except AddressRefused as error:
                raise _not_public(param) from error
            except (ClientError, OSError, ValueError) as error:
                raise _undelivered(param, f"{url.raw_host} cannot be reached, or does not speak HTTP") from error

    def _checked(self, address: str | URL, param: str) -> URL:
        try:
            url = URL(address)
            host = url.raw_host
        except ValueError as error:
            raise _not_allowed(param, "is no valid web address") from error
        if url.scheme not in ("http", "https") or not host:
            raise _not_allowed(param, "is no valid web address")
        if url.raw_user is not None or url.raw_password is not None:
            raise _not_allowed(param, "carries a user name or a password, which this server does not pass on")
        if not self._config.allowed_media_domains:
            raise _not_allowed(param, "is a web address, which this server does not fetch")
        if not self._hosts.allows(url):
            port = "" if url.is_default_port() else f":{url.port}"
            raise _not_allowed(param, f"is at {host}{port}, from where this server does not fetch")
        if _is_number(host) and not self._reach.permits(host):
            raise _not_public(param)  # numbers do not pass the resolver
        return url

    async def _follow(self, url: URL, param: str, allowance: _Allowance) -> bytes:
        for _ in range(REDIRECTS + 1):
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status == 200:
                    return await self._read(answer, param, allowance)
                if answer.status not in _REDIRECTING or "Location" not in answer.headers:
                    raise _answered(answer, param)
                url = self._checked(url.join(URL(answer.headers["Location"])), param)
        raise _undelivered(param, f"{url.raw_host} redirects more than {REDIRECTS} times")

    async def _read(self, answer: ClientResponse, param: str, allowance: _Allowance) -> bytes:
        limit = self._config.max_item_bytes
        content = bytearray()
        announced = answer.content_length or 0
        if announced <= limit:
            async for chunk in answer.content.iter_any():
                allowance.take(len(chunk))
                content += chunk
                allowance.left -= len(chunk)
                if len(content) > limit or allowance.left < 0:
                    break
        if announced > limit or len(content) > limit:
            raise invalid(f"{param} is larger than the {limit} bytes allowed. Send a smaller file.", param)
        if allowance.left < 0:
            raise invalid(
                f"The images of the request are larger than the {self._config.max_body_bytes} bytes allowed together. "
                "Send fewer or smaller ones.",
                param,
            )
        return bytes(content)


def _is_number(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _not_allowed(param: str, what: str) -> ApiError:
    return invalid(f"{param} {what}. {_INSTEAD}", param, code="media_url_not_allowed")


def _not_public(param: str) -> ApiError:
    return _not_allowed(param, "leads to an address that is not public, from where this server does not fetch")


def _answered(answer: ClientResponse, param: str) -> ApiError:
    host = answer.url.raw_host
    if 400 <= answer.status < 500 and answer.status not in (408, 425, 429):
        return invalid(
            f"{param} cannot be had: {host} answered {answer.status}. Check the address. Or: {_INSTEAD}",
            param,
            code=MEDIA_FETCH_FAILED,
        )
    return _undelivered(param, f"{host} answered {answer.status}")


def _undelivered(param: str, why: str) -> ApiError:
    return ApiError(
        424, f"{param} cannot be had: {why}. Try again later. Or: {_INSTEAD}", param=param, code=MEDIA_FETCH_FAILED
    )
