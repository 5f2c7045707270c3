"""Errors as an OpenAI client sees them: one exception, and what each of the scheduler's rejections becomes. Imports
neither the HTTP client nor the scheduler's link.
"""

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from chiasm.gateway.sse import ERROR_EVENT
from chiasm.messages import Reject, RejectReason

CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
GATEWAY_FULL = "gateway_full"
INTERNAL_ERROR = "internal_error"
MEDIA_FETCH_FAILED = "media_fetch_failed"
STOPPING = "stopping"
FULL_RETRY_AFTER_S = 5
"""Nobody can tell when there is room again; most requests are read, and many answered, in less."""


class ApiError(Exception):
    """A request ends with this error.

    `status` is the HTTP status, unless a stream has begun: then the error is one more event of it. `message` says what
    happened and what to do about it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The error as OpenAI's JSON."""
        error: dict[str, Any] = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})

    def events(self) -> bytes:
        """The error as the last two events of a stream."""
        return ERROR_EVENT + b"data: " + self.body() + b"\n\ndata: [DONE]\n\n"


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The client's request is at fault, and would be next time."""
    return ApiError(400, message, param=param, code=code)


def prompt_too_long(what: str, max_model_len: int) -> ApiError:
    """`what` alone leaves no room in the model's context."""
    return invalid(
        f"{what}; this model's context is {max_model_len} tokens, of prompt and answer together. "
        "Send a shorter prompt, or fewer or smaller images.",
        code=CONTEXT_LENGTH_EXCEEDED,
    )


def deadline_exceeded(detail: str) -> ApiError:
    """The request took longer than the gateway or the scheduler allows."""
    return ApiError(
        504,
        f"{detail}. Try again later, or ask for fewer tokens.",
        kind="timeout_error",
        code=RejectReason.DEADLINE,
    )


def decode_failed(detail: str) -> ApiError:
    """An engine failed in a way that no retry mends."""
    return ApiError(502, f"The answer could not be generated: {detail}", kind="server_error", code=RejectReason.DECODE)


def internal_error() -> ApiError:
    """A fault of the gateway's own; the log has it."""
    return ApiError(500, "The gateway failed. Its log says why.", kind="server_error", code=INTERNAL_ERROR)


def stopping() -> ApiError:
    """The cluster is being stopped, and takes or finishes no more requests."""
    return ApiError(
        503,
        "This server is being stopped. Send the request to another one, or again when it is back.",
        kind="server_error",
        code=STOPPING,
    )


def gateway_full(what: str) -> ApiError:
    """There is no room in the gateway for this request now."""
    return ApiError(
        429,
        f"{what}, for all clients or for yours. Try again in {FULL_RETRY_AFTER_S} s, with fewer requests at once or "
        "smaller ones.",
        kind="rate_limit_error",
        code=GATEWAY_FULL,
        headers={"Retry-After": str(FULL_RETRY_AFTER_S)},
    )


def rejected(reject: Reject) -> ApiError:
    """What the scheduler's rejection means to the client."""
    match reject.reason:
        case RejectReason.QUEUE_FULL:
            wait = max(1, math.ceil(reject.retry_after_s or 1))
            return ApiError(
                429,
                f"The cluster is at its limit ({reject.detail}). Try again in {wait} s.",
                kind="rate_limit_error",
                code=reject.reason,
                headers={"Retry-After": str(wait)},
            )
        case RejectReason.NO_WORKER:
            return ApiError(
                503,
                f"No worker can take this request ({reject.detail}). See /ready for what is missing.",
                kind="server_error",
                code=reject.reason,
            )
        case RejectReason.DEADLINE:
            return deadline_exceeded(f"The request was not answered in time ({reject.detail})")
        case RejectReason.BAD_ITEM:
            return ApiError(
                422, f"An image was refused: {reject.detail}. Send another image.", param="messages", code=reject.reason
            )
        case RejectReason.ATTEMPTS:
            return ApiError(
                502,
                f"The request failed as often as it may be tried ({reject.detail}). Try again later.",
                kind="server_error",
                code=reject.reason,
            )
        case RejectReason.DECODE:
            return decode_failed(reject.detail)
