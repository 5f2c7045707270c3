"""The fetching half of the embedding connector: loaded by a decoder's vLLM server, beside its scheduler and its worker.

    scheduler process                                     worker process (one a rank)
      fetch over ZeroMQ into shared files, defer until ──meta──► map the landed files into vLLM's
      landed, pin until finished, or fail as retryable            encoder cache

It must not import the encoder. It runs inside the engine's processes, so no running request waits for the network.
"""

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import torch
from vllm.distributed.ec_transfer.ec_connector.base import ECConnectorBase, ECConnectorMetadata, ECConnectorRole
from vllm.logger import init_logger

from chiasm.wire.card_copies import ToDevice
from chiasm.wire.failures import Failure, forget_failures, write_failures
from chiasm.wire.fetcher import EmbeddingFetcher, FetchResult
from chiasm.wire.protocol import DTYPE_BYTES, layout_hash
from chiasm.wire.settings import ConnectorSettings, load_keys, runtime_folder
from decoder.landing import ItemState, Landing
from decoder.loading import Load, map_tensor
from decoder.transfers import ReportsTransfers, Transfers, TransferStats

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

logger = init_logger(f"vllm.{__name__}")  # vLLM's handlers are set on its own name

STEPS_IN_FLIGHT = 8
"""Steps after which a worker has surely opened the file that it was told to load: more than vLLM ever has under way."""

IDLE_WAIT_S = 0.001  # a deferred request makes the engine step without pause; this is how long such a step may rest

LANDING_WAIT_S = 0.02
"""How long an engine that runs nothing waits for embeddings before it defers their request.

Most land within that on one host or a fast network. A step that runs nothing costs more than its moment: whoever reads
the workers' answer to it goes on polling for a second (vLLM's `SpinCondition`), on the core that prefills.
"""


class Source(msgspec.Struct, frozen=True):
    """Where the gateway says an item can be fetched, and what will come."""

    endpoint: str
    shape: tuple[int, int]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Size of the payload."""
        return math.prod(self.shape) * DTYPE_BYTES[self.dtype]


class TransferParams(msgspec.Struct, frozen=True):
    """The `ec_transfer_params` of a request to a decoder."""

    request: str
    items: dict[str, Source]


@dataclass
class LoadsOfStep(ECConnectorMetadata):
    """Per step, scheduler to worker: what to load, by key."""

    loads: dict[str, Load] = field(default_factory=dict)


class FetchingConnector(ReportsTransfers, ECConnectorBase):
    """vLLM's two sides of the connector; each process has one of them."""

    def __init__(self, vllm_config: "VllmConfig", role: ECConnectorRole) -> None:
        super().__init__(vllm_config=vllm_config, role=role)
        self._fetches: _Fetches | None = None
        self._loaded = {"loads": 0, "loaded_bytes": 0}
        self._copies = ToDevice(torch.device(vllm_config.device_config.device_type))
        if role is ECConnectorRole.SCHEDULER:
            # A drafter reads a little ahead of the computed tokens, so what they cover is still needed.
            covered_counts = vllm_config.speculative_config is None
            dtype = str(vllm_config.model_config.dtype).removeprefix("torch.")
            self._fetches = _Fetches(ConnectorSettings.of(vllm_config), dtype, covered_counts)

    # -- worker process

    def start_load_caches(self, encoder_cache: dict[str, torch.Tensor], **kwargs: Any) -> None:
        """Put this step's items into vLLM's encoder cache, on the device of the model."""
        for key, load in self._get_connector_metadata().loads.items():
            encoder_cache[key] = self._copies.copy(map_tensor(load))
            self._loaded["loads"] += 1
            self._loaded["loaded_bytes"] += encoder_cache[key].nbytes

    def save_caches(self, encoder_cache: dict[str, torch.Tensor], mm_hash: str, **kwargs: Any) -> None:
        """Never called: a decoder encodes nothing."""
        raise RuntimeError(f"a decoder without a vision tower was asked to encode {mm_hash}")

    def counters(self) -> dict[str, int]:
        """What this half has done since it started."""
        return dict(self._loaded)

    # -- scheduler process

    @property
    def _scheduler(self) -> "_Fetches":
        assert self._fetches is not None, "called in a worker process"
        return self._fetches

    def has_cache_item(self, identifier: str) -> bool:
        """Whether the item has landed. A no makes vLLM encode it here, which cannot be: so landed items are pinned."""
        return self._scheduler.has_landed(identifier)

    def ensure_cache_available(self, request: "Request", num_computed_tokens: int) -> bool:
        """Fetch what the request needs; False defers it while the engine steps on."""
        return self._scheduler.ensure(request, num_computed_tokens)

    def update_state_after_alloc(self, request: "Request", index: int) -> None:
        """vLLM made room in its encoder cache for a landed item: the worker loads it in this step."""
        self._scheduler.load(request, index)

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> LoadsOfStep:
        """What the worker loads in this step."""
        return self._scheduler.take_loads(scheduler_output.num_scheduled_tokens)

    def take_unavailable_requests(self) -> set[str]:
        """Requests that cannot have their embeddings; vLLM ends them, and the gateway encodes again."""
        return self._scheduler.take_failed()

    def request_finished(self, request: "Request") -> tuple[bool, dict[str, Any] | None]:
        """The request no longer needs its items."""
        self._scheduler.finish(request)
        return False, None

    def get_ec_connector_stats(self) -> TransferStats | None:
        """Transfers that ended since this was last asked; the worker process has none."""
        return self._fetches.transfers.take() if self._fetches is not None else None

    def shutdown(self) -> None:
        """End the fetching thread."""
        if self._fetches is not None:
            self._fetches.close()


@dataclass
class _Need:
    """What one request needs."""

    params: TransferParams
    sizes: dict[str, int]
    pinned: bool = False
    failed: dict[str, Failure] = field(default_factory=dict)  # by key: matters once the item is not covered


class _Fetches:
    """Scheduler process: brings items to this host. All methods but `_on_result` run on the engine's own thread."""

    def __init__(self, settings: ConnectorSettings, dtype: str, covered_counts: bool) -> None:
        self._dtype = dtype  # of our own model: an encoder that serves another is refused by its layout
        self._runtime = runtime_folder()
        self._covered_counts = covered_counts
        self._landing = Landing(self._runtime / "landed", settings.wire.landing_bytes)
        self._model_revision = settings.model_revision
        self._fetcher = EmbeddingFetcher(
            settings.wire, load_keys(self._runtime), settings.security, self._landing.open_buffer
        )
        self._needs: dict[str, _Need] = {}
        self._failed: dict[str, list[Failure]] = {}
        self._loads: dict[str, Load] = {}
        self._loading: deque[dict[str, Load]] = deque(maxlen=STEPS_IN_FLIGHT)  # handed out, the latest last
        self._step = 0
        self._running: set[str] = set()  # whom steps have run: a pipeline skips some in each
        self._has_waited = False  # since the last step
        self._fetching: dict[str, str] = {}  # the endpoint that each key is being fetched from
        self._results: queue.SimpleQueue[FetchResult] = queue.SimpleQueue()
        self._arrived = threading.Event()
        self.transfers = Transfers()

    def has_landed(self, key: str) -> bool:
        return key in self._landing

    def ensure(self, request: "Request", num_computed_tokens: int) -> bool:
        self._drain()
        if request.request_id in self._failed:
            return False
        need = self._needs.get(request.request_id) or self._admit(request)
        if need is None:
            return False
        if not need.pinned:
            for key, held in self._landing.otherwise(need.sizes).items():
                detail = f"{need.sizes[key]} bytes are announced of an embedding that has {held} here"
                self._fail(request.request_id, Failure(key=key, code="wrong_size", detail=detail))
            if request.request_id in self._failed:
                return False
            need.pinned = self._landing.reserve(request.request_id, need.sizes)
            if not need.pinned:
                return False  # others hold the room; they finish, and this request is asked again
        self._fetch_missing(need)
        missing = self._missing(request, num_computed_tokens)
        if missing and not self._running and not self._has_waited:
            self._wait_for(need, missing)
            missing = self._missing(request, num_computed_tokens)
        for key in missing:
            if key in need.failed:
                self._fail(request.request_id, need.failed[key])
        return not missing

    def _missing(self, request: "Request", num_computed_tokens: int) -> list[str]:
        return [
            feature.identifier
            for feature in request.mm_features
            if feature.identifier not in self._landing and not self._covered(feature, num_computed_tokens)
        ]

    def _wait_for(self, need: _Need, keys: Iterable[str]) -> None:
        """Until all of them have come or one has failed, but not longer than `LANDING_WAIT_S`."""
        self._has_waited = True
        until = time.monotonic() + LANDING_WAIT_S
        while not need.failed and any(key in self._fetching for key in keys):
            if (left_s := until - time.monotonic()) <= 0:
                return
            self._arrived.wait(left_s)
            self._drain()

    def _covered(self, feature: Any, num_computed_tokens: int) -> bool:
        """Whether cached KV blocks stand for the item. It is fetched all the same: a pre-emption may ask for it."""
        end: int = feature.mm_position.offset + feature.mm_position.length
        return self._covered_counts and end <= num_computed_tokens

    def _admit(self, request: "Request") -> _Need | None:
        """Read where the request's items lie; None if that fails the request."""
        rooms = {(feature.identifier, feature.mm_position.get_num_embeds()) for feature in request.mm_features}
        try:
            params = msgspec.convert(request.ec_transfer_params, TransferParams)
            sizes = {key: params.items[key].nbytes for key, _ in rooms if key in params.items}
        except (msgspec.ValidationError, KeyError) as error:
            self._fail(request.request_id, Failure(key="", code="malformed", detail=f"ec_transfer_params: {error}"))
            return None
        need = self._needs[request.request_id] = _Need(params, sizes)
        forget_failures(self._runtime, params.request)
        for key, room in rooms:
            source = params.items.get(key)
            if source is None:
                failure = Failure(key=key, code="no_source", detail="ec_transfer_params names no source")
                self._fail(request.request_id, failure)
            elif source.shape[0] != room:  # vLLM would cut a longer one off, and end at a shorter one
                detail = f"the embedding has {source.shape[0]} tokens, and the prompt has room for {room}"
                self._fail(request.request_id, Failure(key=key, code="wrong_size", detail=detail))
        if not self._landing.fits(sizes):
            detail = f"{sum(sizes.values())} bytes of embeddings exceed wire.landing_bytes"
            self._fail(request.request_id, *(Failure(key=key, code="too_large", detail=detail) for key in sizes))
        return None if request.request_id in self._failed else need

    def _fetch_missing(self, need: _Need) -> None:
        for key in need.sizes:
            item = self._landing.item(key)
            if item.state is ItemState.RESERVED and key not in need.failed:
                item.state = ItemState.FETCHING
                source = need.params.items[key]
                layout = layout_hash(self._model_revision, self._dtype, source.shape[1])
                self._fetching[key] = source.endpoint
                self._fetcher.fetch(key, source.endpoint, source.shape, source.dtype, layout, self._on_result)

    def _on_result(self, result: FetchResult) -> None:
        # On the fetching thread: hand over, and wake an idle step.
        self.transfers.note(result, time.time())
        self._results.put(result)
        self._arrived.set()

    def _drain(self) -> None:
        self._arrived.clear()
        while True:
            try:
                result = self._results.get_nowait()
            except queue.Empty:
                return
            endpoint = self._fetching.pop(result.key)
            waiting = self._landing.settle(result.key, result.ok)
            if not result.ok:
                logger.warning("embedding %s could not be fetched: %s (%s)", result.key, result.code, result.detail)
                failure = Failure(key=result.key, code=str(result.code), detail=result.detail)
                for need in [self._needs[request_id] for request_id in waiting if request_id in self._needs]:
                    # Who was told of another source has lost nothing, and fetches from there when asked next.
                    if need.params.items[result.key].endpoint == endpoint:
                        need.failed[result.key] = failure

    def _fail(self, request_id: str, *failures: Failure) -> None:
        self._failed.setdefault(request_id, []).extend(failures)

    def take_failed(self) -> set[str]:
        self._drain()
        failed, self._failed = self._failed, {}
        for request_id, failures in failed.items():
            if request_id in self._needs:
                write_failures(self._runtime, self._needs[request_id].params.request, failures)
        return set(failed)

    def load(self, request: "Request", index: int) -> None:
        key = request.mm_features[index].identifier
        source = self._needs[request.request_id].params.items[key]
        self._loads[key] = Load(str(self._landing.item(key).path), source.shape, source.dtype)

    def take_loads(self, running: Iterable[str]) -> LoadsOfStep:
        scheduled = set(running)
        self._running |= scheduled
        self._has_waited = False
        if not scheduled and self._fetching:
            self._arrived.wait(IDLE_WAIT_S)
        loads, self._loads = self._loads, {}
        self._keep_until_opened(loads)
        return LoadsOfStep(loads)

    def _keep_until_opened(self, loads: dict[str, Load]) -> None:
        # Its request may be aborted, and its room wanted, before a worker that runs steps behind opens the file.
        self._step += 1
        if len(self._loading) == STEPS_IN_FLIGHT:
            self._landing.release(f"step {self._step - STEPS_IN_FLIGHT}", set(self._loading[0]))
        self._loading.append(loads)
        for key in loads:
            self._landing.pin(key, f"step {self._step}")

    def finish(self, request: "Request") -> None:
        self._running.discard(request.request_id)
        need = self._needs.pop(request.request_id, None)
        if need is not None and need.pinned:
            self._landing.release(request.request_id, set(need.sizes))

    def close(self) -> None:
        self._fetcher.close()
