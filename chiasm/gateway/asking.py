"""What the scheduler says to somebody who waits for it at the gateway: in time, or an error that says so."""

from collections.abc import Coroutine
from typing import Any

from chiasm.gateway.errors import ApiError
from chiasm.gateway.link import Answer, SchedulerLink
from chiasm.messages import Reasons, Status
from chiasm.nouns import RequestId

TIMEOUT_S = 5.0


async def ask_status(link: SchedulerLink, timeout_s: float | None = None) -> Status:
    """A snapshot of the scheduler, that answers within so many seconds, `TIMEOUT_S` unless said.

    Raises:
        ApiError: 503, it does not answer.
    """
    return await _answered(link.ask_status(TIMEOUT_S if timeout_s is None else timeout_s))


async def ask_reasons(link: SchedulerLink, about: RequestId) -> Reasons:
    """Why a request was treated as it was.

    Raises:
        ApiError: 503, the scheduler does not answer.
    """
    return await _answered(link.ask_reasons(about, TIMEOUT_S))


async def _answered(asking: Coroutine[Any, Any, Answer]) -> Answer:
    try:
        return await asking
    except TimeoutError as error:
        raise ApiError(
            503, "The scheduler does not answer. Try again shortly.", kind="server_error", code="not_ready"
        ) from error
