"""The gateway's HTTP surface: routes, and errors in OpenAI's shape. What a request goes through is in
`flow`; the process and its Ray actor are elsewhere.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from chiasm.api_paths import CHAT_PATH, COMPLETIONS_PATH
from chiasm.config import GatewayConfig, TelemetryConfig
from chiasm.gateway.addresses import Reach
from chiasm.gateway.appendix import asks_for_timeline
from chiasm.gateway.asking import ask_status
from chiasm.gateway.authentication import TENANT, authentication
from chiasm.gateway.delivery import ClientLeft, Delivery
from chiasm.gateway.errors import INTERNAL_ERROR, STOPPING, ApiError, internal_error, stopping
from chiasm.gateway.fetching import Fetcher
from chiasm.gateway.flow import Flow, Services
from chiasm.gateway.link import SchedulerLink
from chiasm.gateway.outcomes import OUTCOMES
from chiasm.gateway.parsing import ServingFacts, parse_chat, parse_completion, unknown_model
from chiasm.gateway.reading import Parse, Reader
from chiasm.gateway.timing import Timing
from chiasm.gateway.upstream import Upstream
from chiasm.gateway.views.profiling import Profiling
from chiasm.gateway.views.routes import Views, json_response
from chiasm.messages import Status
from chiasm.nouns import RequestId, Role
from chiasm.telemetry.loop_lag import watch_loop
from chiasm.telemetry.marks import Marks
from chiasm.telemetry.metrics import GatewayMetrics

__all__ = ["DRAIN", "ServingFacts", "make_app", "start_gateway"]

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 5.0
LINGER_S = 1.0
"""Whoever was answered last may ask again by the connection that it has kept: it is told to go elsewhere, and not cut
off."""

DRAIN: web.AppKey[Callable[[float], Awaitable[None]]] = web.AppKey("chiasm_drain")
"""Of the application: to be awaited before it is cleaned up (`_Gateway.drain`)."""

_REQUEST_ID = web.RequestKey("chiasm_request_id", str)

_NOT_THE_CLIENTS_FAULT = (424, 429)  # of the statuses below 500

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(
    facts: ServingFacts,
    config: GatewayConfig,
    link: SchedulerLink,
    cluster_token: str,
    reach: Reach | None = None,
    telemetry: TelemetryConfig | None = None,
) -> web.Application:
    """The gateway as an aiohttp application. While it runs, it also runs `link`. `reach` is for tests."""
    gateway = _Gateway(facts, config, link, cluster_token, reach or Reach(), telemetry or TelemetryConfig())
    app = web.Application(middlewares=[_errors, authentication(config)])
    app.add_routes(
        [
            web.post(CHAT_PATH, gateway.chat),
            web.post(COMPLETIONS_PATH, gateway.completions),
            web.get("/v1/models", gateway.models),
            web.get("/v1/models/{model:.+}", gateway.model),
            web.get("/health", gateway.health),
            web.get("/ready", gateway.ready),
            *gateway.views.routes(),
        ]
    )
    app.on_response_prepare.append(_name_request)
    app.cleanup_ctx.append(gateway.lifetime)
    app[DRAIN] = gateway.drain
    return app


async def start_gateway(app: web.Application, config: GatewayConfig) -> web.AppRunner:
    """Listen at the configured address; `addresses` of the result has the port, its `cleanup()` ends the gateway.

    Raises:
        OSError: the address cannot be listened at.
    """
    # Without cancellation, a request whose client has left would go on using an engine.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_TIMEOUT_S, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


class _Gateway:
    """The handlers, and what they share."""

    def __init__(
        self,
        facts: ServingFacts,
        config: GatewayConfig,
        link: SchedulerLink,
        cluster_token: str,
        reach: Reach,
        telemetry: TelemetryConfig,
    ) -> None:
        self._facts = facts
        self._config = config
        self._link = link
        self._cluster_token = cluster_token
        self._reach = reach
        self._telemetry = telemetry
        self._metrics = GatewayMetrics(OUTCOMES)
        self.views = Views(facts, link, self._metrics)
        self._stopping = False
        self._serving: dict[RequestId, Flow | None] = {}  # None while it is read
        self._served_at = 0.0  # when the latest came to its end, by the event loop's clock
        self._idle = asyncio.Event()  # while there are none
        self._idle.set()

    async def lifetime(self, app: web.Application) -> AsyncIterator[None]:
        async with Upstream(self._cluster_token) as upstream, Fetcher(self._config, self._reach) as fetcher:
            self._profiling = Profiling(self._telemetry, self._facts.model, self._link, upstream)
            self._services = Services(self._link, upstream, self._metrics, self._profiling.timelines)
            self.views.open(upstream, self._profiling)
            self._reader = Reader(self._facts, self._config, fetcher)
            self._routing = asyncio.create_task(self._route())
            watching = asyncio.create_task(watch_loop(self._metrics.loop_lag.observe))
            yield
            await self._profiling.close()
            for task in (self._routing, watching):
                task.cancel()
            await asyncio.wait([self._routing, watching])
            self._reader.close()

    async def drain(self, seconds: float) -> None:
        """Take no more requests, and return when those under way have ended; after so many seconds they are told to."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
                await asyncio.sleep(self._served_at + LINGER_S - asyncio.get_running_loop().time())
        for flow in self._serving.values():
            if flow is not None:
                flow.fail(stopping())

    async def _route(self) -> None:
        try:
            await self._link.run()
        except Exception:
            logger.exception("the line to the scheduler has failed")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, parse_chat)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, parse_completion)

    async def _serve(self, request: web.Request, parse: Parse) -> web.StreamResponse:
        request_id = RequestId(request[_REQUEST_ID])
        marks, trace = Marks(request_id), None
        timing = Timing(marks, self._metrics)
        delivery = Delivery(request, timing)
        deadline = asyncio.get_running_loop().time() + self._config.request_timeout_s
        tenant = request[TENANT]
        name = tenant.name
        with self._metrics.in_flight.track_inprogress(), self._reader.room(name) as take:
            self._serving[request_id] = None
            self._idle.clear()
            try:
                if self._stopping:
                    raise stopping()
                parsed = await self._reader.read(request, parse, name, take, deadline)
                trace = self._profiling.begin(parsed, request.headers, marks)
                if asks_for_timeline(request):
                    delivery.appendix = self._profiling.appendix(parsed, marks)
                flow = Flow(request_id, parsed, tenant, self._services, delivery, marks, trace)
                self._serving[request_id] = flow
                return await flow.run(deadline)
            except asyncio.CancelledError:
                delivery.left()
                raise
            except ClientLeft:
                return delivery.abandon()
            except ApiError as error:
                if error.status >= 500 or error.status in _NOT_THE_CLIENTS_FAULT:
                    delivery.outcome = error.code or "failed"
                raise
            except Exception:
                delivery.outcome = INTERNAL_ERROR
                raise
            finally:
                del self._serving[request_id]
                self._served_at = asyncio.get_running_loop().time()
                if not self._serving:
                    self._idle.set()
                timing.ended(delivery.outcome)
                self._profiling.ended(marks, trace)

    async def models(self, _request: web.Request) -> web.Response:
        return json_response({"object": "list", "data": [self._model_card()]})

    async def model(self, request: web.Request) -> web.Response:
        if (asked := request.match_info["model"]) != self._facts.model:
            raise unknown_model(asked, self._facts)
        return json_response(self._model_card())

    def _model_card(self) -> dict[str, Any]:
        return {
            "id": self._facts.model,
            "object": "model",
            "created": self._facts.created,
            "owned_by": "chiasm",
            "max_model_len": self._facts.max_model_len,
        }

    async def health(self, _request: web.Request) -> web.Response:
        if self._routing.done():
            raise ApiError(503, "The line to the scheduler has failed. Restart this gateway.", kind="server_error")
        return json_response({"status": "alive"})

    async def ready(self, _request: web.Request) -> web.Response:
        if self._stopping:
            raise stopping()
        status = await ask_status(self._link)
        if not status.ready:
            raise ApiError(503, _what_is_missing(status), kind="server_error", code="not_ready")
        return json_response({"status": "ready"})


def _what_is_missing(status: Status) -> str:
    present = {worker.role for worker in status.workers}
    missing = [role for role in (Role.ENCODER, Role.DECODER) if role not in present]
    what = " and ".join(missing) if missing else "worker with room"
    others = f"; {len(status.workers)} other workers are" if status.workers else ""
    return f"Not ready: no {what} is registered{others}. Engines take a minute or more to start, or to start again."


def _error_response(error: ApiError) -> web.Response:
    response = web.Response(
        status=error.status, body=error.body(), content_type="application/json", headers=error.headers
    )
    if error.code == STOPPING:
        response.force_close()  # a kept connection would lead here again, where a new one may lead to another gateway
    return response


async def _name_request(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["X-Request-Id"] = request[_REQUEST_ID]


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    request[_REQUEST_ID] = uuid.uuid4().hex
    try:
        return await handler(request)
    except ApiError as error:
        return _error_response(error)
    except web.HTTPException as error:
        return _error_response(_of_http(error, request))
    except Exception:
        logger.exception("request %s failed inside the gateway", request[_REQUEST_ID])
        return _error_response(internal_error())


def _of_http(error: web.HTTPException, request: web.Request) -> ApiError:
    if isinstance(error, web.HTTPNotFound):
        return ApiError(404, f"There is no {request.path} here. GET /v1/models shows what is served.", code="not_found")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.method} is not allowed on {request.path}. Use {allowed}."
        return ApiError(405, message, code="method_not_allowed", headers={"Allow": allowed})
    return ApiError(error.status, error.reason)
