"""The publishing half of the embedding connector: loaded by an encoder's vLLM server, in two of its processes.

    scheduler process                         worker process
      which items are wanted this step ──meta──►  publish what was encoded, serve it over ZeroMQ
      where an item can be fetched ◄──a file in the runtime folder── the endpoint really bound

It must not import the decoder. It runs inside the engine's processes, so it never blocks a step on the network.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import zmq
from vllm.distributed.ec_transfer.ec_connector.base import ECConnectorBase, ECConnectorMetadata, ECConnectorRole
from vllm.distributed.ec_transfer.ec_connector.encoder_output_width import get_encoder_output_width
from vllm.distributed.ec_transfer.ec_connector.utils import PlaceholderMetadataResolver, collect_ec_item_metadata
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank
from vllm.logger import init_logger
from vllm.v1.request import RequestStatus

from chiasm import messages
from chiasm.families import IMAGE_NUM_TOKENS
from chiasm.wire.card_copies import ToHost
from chiasm.wire.protocol import RefusalCode, layout_hash, tensor_nbytes
from chiasm.wire.server import EmbeddingServer
from chiasm.wire.settings import ConnectorSettings, event_endpoint, load_keys, runtime_folder
from chiasm.wire.store import EmbeddingStore, StoreFull
from encoder.published import PublishedStats, ReportsPublished

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

logger = init_logger(f"vllm.{__name__}")  # vLLM's handlers are set on its own name

EVENTS_QUEUED = 1024


@dataclass
class WantedItems(ECConnectorMetadata):
    """Per step, scheduler to worker: keys that requests of this step ask for."""

    keys: set[str] = field(default_factory=set)


class PublishingConnector(ReportsPublished, ECConnectorBase):
    """vLLM's two sides of the connector; each process has one of them."""

    def __init__(self, vllm_config: "VllmConfig", role: ECConnectorRole) -> None:
        super().__init__(vllm_config=vllm_config, role=role)
        self._publisher: _Publisher | None = None
        if role is ECConnectorRole.SCHEDULER:
            self._announcer = _Announcer(vllm_config)
        elif get_tensor_model_parallel_rank() == 0:  # every rank has the whole output, so one publishes
            self._publisher = _Publisher(ConnectorSettings.of(vllm_config))

    # -- worker process

    def start_save_caches(self, **kwargs: Any) -> None:
        """Publish again what vLLM has in its encoder cache but the store has let go: it is not re-encoded."""
        if self._publisher is not None:
            encoder_cache: dict[str, torch.Tensor] = kwargs["encoder_cache"]
            for key in self._get_connector_metadata().keys & encoder_cache.keys():
                self._publisher.publish(key, encoder_cache[key])

    def save_caches(self, encoder_cache: dict[str, torch.Tensor], mm_hash: str, **kwargs: Any) -> None:
        """Publish a freshly encoded item."""
        if self._publisher is not None:
            self._publisher.encodes += 1
            self._publisher.publish(mm_hash, encoder_cache[mm_hash])

    def start_load_caches(self, encoder_cache: dict[str, torch.Tensor], **kwargs: Any) -> None:
        """Nothing to load: an encoder only publishes."""

    def counters(self) -> dict[str, int]:
        """What this half has done since it started."""
        return self._publisher.counters() if self._publisher is not None else {}

    # -- scheduler process

    def has_cache_item(self, identifier: str) -> bool:
        """Never: an encoder gets items from its own tower only."""
        return False

    def ensure_cache_available(self, request: "Request", num_computed_tokens: int) -> bool:
        """Always, and remember what the request wants."""
        self._announcer.want(request)
        return True

    def update_state_after_alloc(self, request: "Request", index: int) -> None:
        """vLLM made room for the item in its own cache; ours is the worker's concern."""

    def build_connector_meta(self, scheduler_output: "SchedulerOutput") -> WantedItems:
        """Tell the worker what the requests of this step want."""
        return self._announcer.take_wanted()

    def request_finished(self, request: "Request") -> tuple[bool, dict[str, Any] | None]:
        """What the response says of each item: its placeholder metadata and where to fetch it."""
        return False, self._announcer.announce(request)

    def get_ec_connector_stats(self) -> PublishedStats | None:
        """What was published since this was last asked; the worker process does not know."""
        return self._announcer.published.take() if self.role is ECConnectorRole.SCHEDULER else None

    def shutdown(self) -> None:
        """Close the server's socket and thread."""
        if self._publisher is not None:
            self._publisher.close()


class _Announcer:
    """Scheduler process: says in the response where each item lies."""

    def __init__(self, vllm_config: "VllmConfig") -> None:
        self._config = vllm_config
        self._resolver = PlaceholderMetadataResolver(vllm_config.model_config)
        self._dtype = str(vllm_config.model_config.dtype).removeprefix("torch.")
        self._wanted: set[str] = set()
        self._endpoint: str | None = None
        self.published = PublishedStats()

    def want(self, request: "Request") -> None:
        self._wanted.update(feature.identifier for feature in request.mm_features)

    def take_wanted(self) -> WantedItems:
        wanted, self._wanted = self._wanted, set()
        return WantedItems(wanted)

    def announce(self, request: "Request") -> dict[str, Any] | None:
        items: dict[str, dict[str, Any]] = collect_ec_item_metadata(request.mm_features, self._resolver)
        for index, feature in enumerate(request.mm_features):
            tokens = request.get_num_encoder_embeds(index)
            width = get_encoder_output_width(self._config, feature.modality)
            item = items[feature.identifier]
            item |= {"endpoint": self._bound_endpoint(), "shape": [tokens, width], "dtype": self._dtype}
            if IMAGE_NUM_TOKENS in self._resolver.fields_for(feature.modality):
                item["metadata"][IMAGE_NUM_TOKENS] = [tokens]  # vLLM reports what its processors made, not this
        if request.status is RequestStatus.FINISHED_STOPPED:  # not aborted
            for item in items.values():
                self.published.count(tensor_nbytes(item["shape"], item["dtype"]))
        return items or None

    def _bound_endpoint(self) -> str:
        # The worker process bound it before this process took its first request.
        if self._endpoint is None:
            self._endpoint = (runtime_folder() / "endpoint").read_text()
        return self._endpoint


class _Publisher:
    """Worker process: owns the store, and the server that hands its items out."""

    def __init__(self, settings: ConnectorSettings) -> None:
        runtime = runtime_folder()
        self._settings = settings
        self.encodes = 0
        self._copies = ToHost()
        self._owner = zmq.Context()
        self._events = self._owner.socket(zmq.PUSH)
        self._events.set(zmq.SNDHWM, EVENTS_QUEUED)
        self._events.set(zmq.LINGER, 0)
        self._events.connect(event_endpoint(runtime))
        self.store = EmbeddingStore(settings.wire.store_bytes, settings.wire.lease_s, on_evict=self._report_eviction)
        listen = settings.listen or f"ipc://{runtime}/embeddings"
        self._server = EmbeddingServer(self.store, listen, settings.wire, load_keys(runtime), settings.security)
        self._server.start()
        (runtime / "endpoint").write_text(self._server.endpoint)

    def publish(self, key: str, tensor: torch.Tensor) -> None:
        """Keep a host copy of `tensor` ([tokens, width]) under `key`; an item that is held already is leased anew."""
        if self.store.renew(key):
            return
        host, finite = self._copies.copy(tensor)
        dtype = str(host.dtype).removeprefix("torch.")
        if not finite:
            logger.error("embedding %s has non-finite values and will not be served", key)
            self.store.refuse(key, RefusalCode.NOT_FINITE, "the encoder produced NaN or infinity")
            return
        layout = layout_hash(self._settings.model_revision, dtype, host.shape[1])
        try:
            self.store.publish(key, host.view(torch.uint8).numpy().data, (host.shape[0], host.shape[1]), dtype, layout)
        except StoreFull as error:
            logger.warning("embedding %s cannot be kept: %s", key, error)
            self.store.refuse(key, RefusalCode.BUSY, str(error))

    def _report_eviction(self, key: str) -> None:
        # An owner that does not listen costs it nothing but a later "missing".
        try:
            self._events.send(messages.encode(messages.Evicted(self._settings.worker, (key,))), zmq.NOBLOCK)
        except zmq.Again:
            logger.debug("eviction of %s was not reported: the owner is busy", key)

    def counters(self) -> dict[str, int]:
        now = {"stored": len(self.store), "open": self._server.open}
        return {"encodes": self.encodes, **now, **self._server.stats.as_dict()}

    def close(self) -> None:
        self._server.close()
        self._events.close()
        self._owner.term()
