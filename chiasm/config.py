"""One typed ClusterConfig. Every default, bound and description is written here, once: `config_file` reads it from
YAML, `config_view` shows it, and the command line's help quotes it.

A field with `repr=False` may hold a secret: its value is shown nowhere.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from chiasm.config_section import Contradiction, Section
from chiasm.contradictions import contradictions
from chiasm.kubernetes.settings import KubernetesConfig
from chiasm.pools import EncodersConfig, PoolConfig, WholesConfig

MAX_IMAGE_PIXELS = 178_956_970
"""Beyond it Pillow refuses an image, and so does vLLM (VLLM_MAX_IMAGE_PIXELS), whatever is configured here."""

_HOST = re.compile(r"(\*|(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class GatewayConfig(Section):
    """The HTTP edge."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 to serve other machines")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    api_keys: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list, repr=False, description="bearer tokens accepted; empty accepts everyone"
    )
    api_key_weights: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        repr=False,
        description="share of the service that an API key has while others wait too, by key; 1 for those not named",
    )
    operator_keys: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        repr=False,
        description="bearer tokens for what tells of everybody's requests (chiasm status, chiasm profile, ...); empty "
        "leaves that to whoever may send requests",
    )
    cache_scope: Literal["tenant", "shared"] = Field(
        "tenant",
        description="tenant: only requests with one API key share the embeddings of equal media; shared: all do",
    )
    max_body_bytes: PositiveInt = Field(
        64 << 20, description="largest request body accepted, and the most that is fetched for one request"
    )
    max_held_bytes: PositiveInt = Field(
        2 << 30,
        description="bytes of all requests together, decoded JSON and fetched images included, each held from its "
        "first byte to the end of its answer; one API key may have half of it, several less each; beyond it 429 with "
        "Retry-After",
    )
    max_items: PositiveInt = Field(16, description="most images in one request")
    max_item_bytes: PositiveInt = Field(20 << 20, description="largest encoded image file accepted")
    max_item_pixels: int = Field(
        50_000_000, gt=0, le=MAX_IMAGE_PIXELS, description="most pixels (width x height) of one image"
    )
    allowed_media_domains: list[str] = Field(
        default_factory=list,
        description='hosts that images may be fetched from by http(s), e.g. ["images.example.com", "*.example.org", '
        '"files.example.net:8443"]; "*" is every public host; empty fetches nothing; never a private address',
    )
    fetch_timeout_s: PositiveFloat = Field(10.0, description="deadline of fetching one image, redirects included")
    allow_processor_options: bool = Field(
        False, description="let clients set mm_processor_kwargs and media_io_kwargs, which can make images far costlier"
    )
    request_timeout_s: PositiveFloat = Field(600.0, description="a request that takes longer ends with an error")
    drain_s: float = Field(
        10.0,
        ge=0,
        description="when the cluster is stopped, how long answers under way may go on; then they end with an error",
    )
    default_output_tokens: PositiveInt = Field(
        256, description="tokens reserved for a request that sets no max_tokens; it may still generate more"
    )

    @model_validator(mode="after")
    def _keys_with_weights(self) -> Self:
        if not self.api_key_weights.keys() <= set(self.api_keys):
            message = "one of its keys is not in api_keys. Add it there, or take it out here."
            raise Contradiction([("api_key_weights", message)])
        return self

    @model_validator(mode="after")
    def _hosts(self) -> Self:
        if wrong := [entry for entry in self.allowed_media_domains if not _HOST.fullmatch(entry)]:
            message = f'"{wrong[0]}" is no host. Write "images.example.com", "*.example.com" or "*", without http://.'
            raise Contradiction([("allowed_media_domains", message)])
        return self

    @model_validator(mode="after")
    def _room_for_one(self) -> Self:
        if self.max_held_bytes < (least := 4 * self.max_body_bytes):  # body and fetched images, in half of it
            message = (
                f"a request of max_body_bytes = {self.max_body_bytes} that names images of as many is more than half "
                f"of it. Make it {least} or more, or lower max_body_bytes."
            )
            raise Contradiction([("max_held_bytes", message)])
        return self


class SchedulerConfig(Section):
    """The scheduling core."""

    port: int = Field(7555, ge=1, le=65535, description="port for workers and gateways on other machines")
    queue_limit: PositiveInt = Field(1024, description="requests withheld at most; beyond it 429 with Retry-After")
    max_attempts: PositiveInt = Field(3, description="encodes of one item, and decodes of one request, at most")
    look_ahead: int = Field(
        2, ge=0, description="requests an engine may hold beyond its slots; generators by an eighth of them at most"
    )
    cached_items: PositiveInt = Field(65_536, description="embeddings whose whereabouts are remembered")
    explained_requests: PositiveInt = Field(
        4096, description="requests of which the scheduler remembers why it treated them so (chiasm explain)"
    )
    heartbeat_s: PositiveFloat = Field(1.0, description="how often a worker or a gateway reports that it lives")
    heartbeat_timeout_s: PositiveFloat = Field(10.0, description="silence after which either is given up")
    stealing: Literal["off", "yield", "share"] = Field(
        "off",
        description="what encoders' cards do while no image waits. off: nothing. yield: a second, text-only engine on "
        "each takes queued text requests where that pays; an image goes first, and holds that engine until it is "
        "encoded. share: an image does not hold it. Off by default, because the second engine costs each encoder node "
        "the language model's weights, a KV cache and one more start (docs/stealing.md)",
    )
    itl_slo_ms: PositiveFloat = Field(
        200.0,
        description="milliseconds between two tokens of a stream that are good enough: no engine steals a request "
        "that it would answer slower, what has been held for longer goes back to a decoder if that would be sooner, "
        "and a decoder computes prompts in chunks that no stream waits longer for; an image goes to a whole worker "
        "only if no stream there waits longer",
    )
    prefill_chunk: int | None = Field(
        None,
        ge=0,
        description="tokens of a prompt that a decoder computes in one step beside the streams that it answers; unset: "
        "as many as itl_slo_ms allows, measured when a model is first started on a machine (docs/prefill.md); 0: as "
        "many as vLLM likes",
    )

    @field_validator("stealing", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """YAML reads a bare `off` as false."""
        return "off" if value is False else value


class WireConfig(Section):
    """The embedding transport."""

    port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port at which an encoder hands out embeddings to other machines; 0 takes a free one. Set it where "
        "a firewall must know it and each encoder has an address of its own",
    )
    chunk_bytes: int = Field(1 << 20, ge=4096, le=64 << 20, description="payload bytes in one message")
    window_chunks: PositiveInt = Field(8, description="chunks under way before the receiver must grant more credit")
    store_bytes: PositiveInt = Field(1 << 30, description="host memory of one encoder's store of embeddings")
    landing_bytes: PositiveInt = Field(1 << 30, description="host memory of one decoder for landed embeddings")
    max_item_bytes: PositiveInt = Field(256 << 20, description="largest single embedding accepted")
    transfer_timeout_s: PositiveFloat = Field(30.0, description="deadline of one transfer")
    lease_s: PositiveFloat = Field(60.0, description="how long a published embedding is safe from eviction")

    def listen_at(self, address: str) -> str:
        """Where an encoder with this IP address hands out embeddings, as ZeroMQ writes it; `*` is a free port."""
        return f"tcp://{address}:{self.port or '*'}"


class TelemetryConfig(Section):
    """What is measured of requests, and where it goes."""

    timelines: int = Field(
        1024, ge=0, description="requests whose timeline a gateway remembers; 0 turns profiling off, in the engines too"
    )
    otlp_endpoint: str | None = Field(
        None, description="where traces go (OTLP over gRPC, e.g. http://collector:4317); unset makes none"
    )
    trace_part: float = Field(
        1.0, ge=0, le=1, description="part of the requests without a trusted traceparent that are traced"
    )
    trust_traceparent: bool = Field(
        True,
        description="whether a client that sends a traceparent decides by its flag if its request is traced, as a part "
        "of its own trace; false draws all requests alike, and begins a trace for each",
    )

    @model_validator(mode="after")
    def _endpoint(self) -> Self:
        endpoint = self.otlp_endpoint
        if endpoint is not None and not endpoint.startswith(("http://", "https://")):
            message = f'"{endpoint}" is no address. Write it with http:// or https://, e.g. http://collector:4317.'
            raise Contradiction([("otlp_endpoint", message)])
        return self


class ClusterConfig(Section):
    """A whole cluster."""

    model: str | None = Field(None, description="model id or folder; unset or pupil: the built-in demo model")
    revision: str | None = Field(None, description="model revision on the hub")
    served_model_name: str | None = Field(None, description="name in the API; unset uses the model's own")
    engine_start_timeout_s: PositiveFloat = Field(
        900.0, description="an engine not ready by then has failed; the download of its model counts"
    )
    security: Literal["auto", "curve"] = Field(
        "auto", description="auto encrypts ZeroMQ whenever it leaves the machine; curve encrypts it always"
    )
    gateway: GatewayConfig = GatewayConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    wire: WireConfig = WireConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    roles: Literal["given", "auto"] = Field(
        "given",
        description="given: the pools are as their sections say. auto: cards are divided between encoders and decoders "
        "by what they can do and what the model asks, which sets count, gpus and labels of both (docs/roles.md)",
    )
    cards: dict[str, PositiveInt] = Field(
        default_factory=dict,
        description='cards that roles: auto divides, e.g. {"rtx-4090": 8, "h100-sxm": 4}; unset: all that the Ray '
        "cluster has",
    )
    encoders: EncodersConfig = EncodersConfig()
    decoders: PoolConfig = PoolConfig()
    wholes: WholesConfig = WholesConfig()
    kubernetes: KubernetesConfig = KubernetesConfig()

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, data: Any) -> Any:
        """A section whose fields are all commented out reads as null, and means its defaults."""
        if not isinstance(data, dict):
            return data
        sections = {name for name, field in cls.model_fields.items() if isinstance(field.default, Section)}
        return {name: value for name, value in data.items() if name not in sections or value is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if found := contradictions(self):
            raise Contradiction(found)
        return self

    @property
    def text_engine_args(self) -> list[str]:
        """All arguments of the text engine on an encoder's card. Of a flag that is there twice, the last counts."""
        return [*self.decoders.engine_args, *self.encoders.text_engine_args]

    @property
    def whole_engine_args(self) -> list[str]:
        """All arguments of a whole worker's engine, likewise."""
        return [*self.decoders.engine_args, *self.wholes.engine_args]
