"""One typed ClusterConfig, read from one YAML file. Every default and every description is written here, once."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the field and the cure."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class GatewayConfig(_Section):
    """The HTTP edge."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 to serve other machines")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    api_keys: list[str] = Field(default_factory=list, description="bearer tokens accepted; empty accepts everyone")
    cache_scope: Literal["tenant", "shared"] = Field(
        "tenant",
        description="tenant: only requests with one API key share the embeddings of equal media; shared: all do",
    )
    max_body_bytes: PositiveInt = Field(64 << 20, description="largest request body accepted")
    max_items: PositiveInt = Field(16, description="most images in one request")
    max_item_bytes: PositiveInt = Field(20 << 20, description="largest encoded image file accepted")
    max_item_pixels: PositiveInt = Field(50_000_000, description="most pixels (width x height) of one image")
    allow_processor_options: bool = Field(
        False, description="let clients set mm_processor_kwargs and media_io_kwargs, which can make images far costlier"
    )
    request_timeout_s: PositiveFloat = Field(600.0, description="a request that takes longer ends with an error")
    default_output_tokens: PositiveInt = Field(
        256, description="tokens reserved for a request that sets no max_tokens; it may still generate more"
    )


class SchedulerConfig(_Section):
    """The scheduling core."""

    port: int = Field(7555, ge=1, le=65535, description="port for workers and gateways on other machines")
    queue_limit: PositiveInt = Field(1024, description="requests withheld at most; beyond it 429 with Retry-After")
    max_attempts: PositiveInt = Field(3, description="encodes of one item, and decodes of one request, at most")
    look_ahead: int = Field(2, ge=0, description="requests an engine may hold beyond its running slots")
    cached_items: PositiveInt = Field(65_536, description="embeddings whose whereabouts are remembered")
    heartbeat_s: PositiveFloat = Field(1.0, description="how often a worker reports that it lives")
    heartbeat_timeout_s: PositiveFloat = Field(10.0, description="silence after which a worker is given up")


class WireConfig(_Section):
    """The embedding transport."""

    chunk_bytes: int = Field(1 << 20, ge=4096, le=64 << 20, description="payload bytes in one message")
    window_chunks: PositiveInt = Field(8, description="chunks under way before the receiver must grant more credit")
    store_bytes: PositiveInt = Field(1 << 30, description="host memory of one encoder's store of embeddings")
    landing_bytes: PositiveInt = Field(1 << 30, description="host memory of one decoder for landed embeddings")
    max_item_bytes: PositiveInt = Field(256 << 20, description="largest single embedding accepted")
    transfer_timeout_s: PositiveFloat = Field(30.0, description="deadline of one transfer")
    lease_s: PositiveFloat = Field(60.0, description="how long a published embedding is safe from eviction")


class PoolConfig(_Section):
    """One pool of equal workers."""

    count: int = Field(1, ge=0, description="workers in the pool")
    cpus: list[str] | None = Field(
        None, description='cores per worker, e.g. ["0-3", "4-7"]; unset shares the machine\'s cores evenly on CPU'
    )

    @model_validator(mode="after")
    def _cores_for_all(self) -> Self:
        if self.cpus is not None and len(self.cpus) < self.count:
            raise ValueError(
                f"cpus has cores for {len(self.cpus)} of {self.count} workers, and they must not share any"
            )
        return self

    gpus: float = Field(0, ge=0, description="GPUs per worker (Ray's num_gpus)")
    resources: dict[str, float] = Field(default_factory=dict, description="custom Ray resources per worker")
    labels: dict[str, str] = Field(
        default_factory=dict, description='Ray node labels to require, e.g. {"ray.io/node-group": "encode-l40s"}'
    )
    engine_args: list[str] = Field(default_factory=list, description="extra arguments for the vLLM server")
    env: dict[str, str] = Field(default_factory=dict, description="extra environment for the vLLM server")


class ClusterConfig(_Section):
    """A whole cluster."""

    model: str | None = Field(None, description="model id or folder; unset serves the built-in demo model")
    revision: str | None = Field(None, description="model revision on the hub")
    served_model_name: str | None = Field(None, description="name in the API; unset uses the model's own")
    engine_start_timeout_s: PositiveFloat = Field(900.0, description="an engine not ready by then has failed")
    security: Literal["auto", "curve"] = Field(
        "auto", description="auto encrypts ZeroMQ whenever it leaves the machine; curve encrypts it always"
    )
    gateway: GatewayConfig = GatewayConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    wire: WireConfig = WireConfig()
    encoders: PoolConfig = PoolConfig()
    decoders: PoolConfig = PoolConfig()


def load_config(path: Path) -> ClusterConfig:
    """The configuration in a YAML file.

    Raises:
        ConfigError: unreadable, not YAML, or a field that does not fit; the message names it.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    try:
        return ClusterConfig.model_validate(data or {})
    except ValidationError as error:
        lines = [f"  {_explain(tuple(map(str, e['loc'])), e['type'], e['msg'])}" for e in error.errors()]
        raise ConfigError(f"{path} does not fit:\n" + "\n".join(lines)) from error


def _explain(place: tuple[str, ...], kind: str, message: str) -> str:
    if not place:
        return "the file must be a mapping of field names to values"
    if kind != "extra_forbidden":
        return f"{'.'.join(place)}: {message}"
    section: Any = ClusterConfig
    for name in place[:-1]:
        section = section.model_fields[name].annotation
    nearest = difflib.get_close_matches(place[-1], section.model_fields, 1)
    hint = f" Did you mean {nearest[0]}?" if nearest else f" There are: {', '.join(section.model_fields)}."
    return f"{'.'.join(place)}: there is no such field.{hint}"
