"""One typed ClusterConfig. Every default, bound and description is written here, once: `config_file` reads it from
YAML, `config_view` shows it, and the command line's help quotes it.

A field with `repr=False` may hold a secret: its value is shown nowhere.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from chiasm.config_section import Contradiction, Section
from chiasm.engine_guard import parse_cpus
from chiasm.kubernetes.settings import KubernetesConfig
from chiasm.reserved import (
    decoders_flags,
    own_step_limits,
    refused_flags,
    refused_variables,
    unlike,
    unshared_card,
)

MAX_IMAGE_PIXELS = 178_956_970
"""Beyond it Pillow refuses an image, and so does vLLM (VLLM_MAX_IMAGE_PIXELS), whatever is configured here."""

TEAM_FLAGS = ("--tensor-parallel-size", "-tp")
"""How vLLM is told that several cards make one engine."""

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


class PoolConfig(Section):
    """One pool of equal workers."""

    count: int = Field(1, ge=0, description="workers in the pool")
    cpus: list[str] | None = Field(
        None, description='cores per worker, e.g. ["0-3", "4-7"]; unset shares the machine\'s cores evenly on CPU'
    )

    gpus: float = Field(0, ge=0, description="GPUs per worker (Ray's num_gpus)")
    resources: dict[str, float] = Field(default_factory=dict, description="custom Ray resources per worker")
    labels: dict[str, str] = Field(
        default_factory=dict, description='Ray node labels to require, e.g. {"ray.io/node-group": "encode-l40s"}'
    )
    fallbacks: list[dict[str, str]] = Field(
        default_factory=list,
        description="labels to require instead, the first that Ray finds a node for, where none with `labels` can take "
        "a worker; {} is any node. Whoever lands there says so (chiasm status)",
    )
    engine_args: list[str] = Field(default_factory=list, description="extra arguments for the vLLM server")
    env: dict[str, str] = Field(default_factory=dict, repr=False, description="extra environment for the vLLM server")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = [("engine_args", message) for message in refused_flags(self.engine_args)]
        found += [("env", message) for message in refused_variables(self.env)]
        found += [("cpus", message) for message in self._wrong_cores()]
        if self.fallbacks and not self.labels:
            found.append(("fallbacks", "there are no labels that they stand in for. Set labels, or leave them out."))
        if found:
            raise Contradiction(found)
        return self

    def _wrong_cores(self) -> list[str]:
        if self.cpus is None:
            return []
        messages = []
        for cores in self.cpus:
            try:
                parse_cpus(cores)
            except ValueError:
                messages.append(f'"{cores}" is no list of cores. Write them like "0-3" or "0,2,4".')
        if len(self.cpus) < self.count:
            messages.append(
                f"there are cores for {len(self.cpus)} of {self.count} workers, which must not share any. "
                f"Add some, or lower count."
            )
        return messages


class EncodersConfig(PoolConfig):
    """The pool of encoders."""

    text_engine_args: list[str] = Field(
        default_factory=list,
        description="arguments for the text engine on each encoder's card, where scheduler.stealing starts one. It "
        "gets decoders.engine_args, for it must answer as a decoder does, and then these: what differs on this card, "
        "as the size of its KV cache may (--kv-cache-memory-bytes). With GPUs that must be set here, and for both "
        "engines their part of the card: --gpu-memory-utilization in engine_args and here, together at most 1",
    )

    @model_validator(mode="after")
    def _text_engine(self) -> Self:
        if found := [*refused_flags(self.text_engine_args), *decoders_flags(self.text_engine_args)]:
            raise Contradiction([("text_engine_args", message) for message in found])
        return self


class WholesConfig(PoolConfig):
    """The pool of whole workers, with both halves of the model on one engine, beside encoders and decoders."""

    count: int = Field(
        0,
        ge=0,
        description="workers in the pool. An image goes to one where it would be answered before encoders and decoders "
        "could, if the streams there keep to scheduler.itl_slo_ms; text goes wherever it is answered first "
        "(docs/split_or_stay.md)",
    )
    engine_args: list[str] = Field(
        default_factory=list,
        description="arguments for the vLLM server after those in decoders.engine_args, which it gets as well, for it "
        "must answer as a decoder does: what differs on this card",
    )

    @model_validator(mode="after")
    def _as_decoders(self) -> Self:
        if found := decoders_flags(self.engine_args):
            raise Contradiction([("engine_args", message) for message in found])
        return self


class ClusterConfig(Section):
    """A whole cluster."""

    model: str | None = Field(None, description="model id or folder; unset serves the built-in demo model")
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
        wire, scheduler = self.wire, self.scheduler
        found = [
            ("decoders.engine_args", message)
            for message in unlike(self.encoders.engine_args, self.decoders.engine_args)
        ]
        if scheduler.stealing != "off" and self.encoders.gpus:
            faults = unshared_card(self.encoders.engine_args, self.encoders.text_engine_args)
            found += [(f"encoders.{field}", message) for field, message in faults]
        if scheduler.stealing != "off" and not self.encoders.count:
            message = "encoders' cards are what steals, and encoders.count is 0. Have an encoder, or set this to off."
            found.append(("scheduler.stealing", message))
        if scheduler.prefill_chunk and (limits := own_step_limits(self.decoders.engine_args)):
            message = f"decoders.engine_args has {limits[0]}, which says the same. Leave one of them out."
            found.append(("scheduler.prefill_chunk", message))
        if self.gateway.port == scheduler.port:
            found.append(("scheduler.port", f"gateway.port is {scheduler.port} too. Give one of them another."))
        if scheduler.heartbeat_timeout_s <= scheduler.heartbeat_s:
            found.append(
                (
                    "scheduler.heartbeat_timeout_s",
                    f"{scheduler.heartbeat_timeout_s} s are over before the next report, which comes after heartbeat_s "
                    f"= {scheduler.heartbeat_s} s. Make it several times as long.",
                )
            )
        for name, room in (("store_bytes", wire.store_bytes), ("landing_bytes", wire.landing_bytes)):
            if room < wire.max_item_bytes:
                found.append(
                    (
                        f"wire.{name}",
                        f"{room} bytes have no room for one embedding of wire.max_item_bytes = {wire.max_item_bytes}. "
                        "Raise the one or lower the other.",
                    )
                )
        found += self._decided_twice()
        if found:
            raise Contradiction(found)
        return self

    def _decided_twice(self) -> list[tuple[str, str]]:
        """What `roles: auto` decides, or has no room for."""
        if self.roles == "given":
            return [("cards", "is for roles: auto alone. Say that, or leave it out.")] if self.cards else []
        found = [
            (f"{name}.{field}", "is decided by roles: auto. Leave one of them out.")
            for name, pool in (("encoders", self.encoders), ("decoders", self.decoders))
            for field in ("count", "gpus", "labels", "fallbacks", "cpus")
            if field in pool.model_fields_set
        ]
        if any(argument.partition("=")[0] in TEAM_FLAGS for argument in self.decoders.engine_args):
            found.append(("decoders.engine_args", f"{TEAM_FLAGS[0]} is decided by roles: auto. Leave one of them out."))
        if self.wholes.count:
            found.append(("wholes.count", "roles: auto leaves them no cards. Set it to 0, or leave roles out."))
        return found

    @property
    def text_engine_args(self) -> list[str]:
        """All arguments of the text engine on an encoder's card. Of a flag that is there twice, the last counts."""
        return [*self.decoders.engine_args, *self.encoders.text_engine_args]

    @property
    def whole_engine_args(self) -> list[str]:
        """All arguments of a whole worker's engine, likewise."""
        return [*self.decoders.engine_args, *self.wholes.engine_args]
