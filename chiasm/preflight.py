"""Can this model be split, and what must the cluster know of it? Asked of vLLM itself, before any engine starts.

`python -m chiasm.preflight MODEL [vLLM arguments]` answers in JSON on its last line. It runs in a process of its own,
because importing vLLM takes seconds and hundreds of megabytes that the asking process does not need.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

from chiasm.families import DEEPSTACK, FAMILIES, UNUSED_DEEPSTACK
from chiasm.footprint import footprint, language_model_bytes, vision_tower_bytes
from chiasm.hub import ModelUnreadable, require_reachable
from chiasm.model_files import files_digest
from chiasm.plugins import replace_models

TIMEOUT_S = 300.0
DEFAULT_CELL = 28  # pixels a side of one image token where the configuration does not say


class PreflightFailed(RuntimeError):
    """The model cannot be served split; the message says why and what to do."""


@dataclass(frozen=True)
class ModelFacts:
    """What the cluster knows of its model."""

    model: str  # as vLLM is told
    name: str  # as clients see it
    architecture: str
    revision: str  # fingerprint of weights and configuration: embeddings of another are refused
    pixels_per_token: int  # for estimates; the encoder's answer has the true count
    image_tokens: tuple[int, int]  # the fewest and the most that one image can have, for estimates too
    image_pixels: tuple[int, int] | None  # the least and the most that Qwen's image processor resizes to, if it is used
    max_model_len: int  # tokens
    metadata_fields: tuple[str, ...]  # what sizes an image's placeholders
    language_model_bytes: int | None = None  # its weights; None where the configuration does not tell
    vision_tower_bytes: int | None = None  # likewise
    kv_token_bytes: int | None = None  # of one token in a KV cache, likewise
    kv_cache_bytes: int | None = None  # what the arguments say that a KV cache takes
    sampling: Mapping[str, Any] = field(default_factory=dict)  # what engines assume where a request says nothing
    longest_answer: int | None = None  # tokens, whatever a request asks for; None: as long as the context
    files: str = ""  # digest of the model's folder, which other hosts have to have as well; empty for a hub's model


def check_model(model: str, name: str | None, revision: str | None, engine_args: list[str]) -> ModelFacts:
    """Ask vLLM about the model.

    Raises:
        PreflightFailed: the hub cannot be reached, vLLM cannot read the model, it takes no images, or its images cannot
            be sent as metadata.
    """
    if model.startswith(("/", ".", "~")) and not (Path(model) / "config.json").is_file():
        raise PreflightFailed(f"{model} is no model: there is no config.json in it")
    try:
        require_reachable(model, revision)
    except ModelUnreadable as error:
        raise PreflightFailed(str(error)) from error
    command = [sys.executable, "-m", "chiasm.preflight", "--model", model]
    command += ["--revision", revision] if revision is not None else []
    try:
        run = subprocess.run(
            [*command, *engine_args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PreflightFailed(f"reading {model} took longer than {TIMEOUT_S:.0f} s") from error
    if run.returncode != 0:
        last = [line for line in run.stderr.strip().splitlines() if line.strip()][-12:]
        raise PreflightFailed(f"vLLM cannot read the model {model}:\n  " + "\n  ".join(last))
    report: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    reason, tower = _reason_against(report), report["tower"]
    if reason is not None:
        which = report["architecture"] + (f" with a vision tower of type {tower}" if tower else "")
        raise PreflightFailed(
            f"{model} ({which}) cannot be split: {reason}.\n"
            f"  Serve it unsplit with vLLM, or choose a model of a family that can be: {', '.join(FAMILIES)}."
        )
    return ModelFacts(
        model=model,
        name=name or (Path(model).name if Path(model).exists() else model),
        architecture=report["architecture"],
        revision=report["revision"],
        pixels_per_token=report["pixels_per_token"],
        image_tokens=tuple(report["image_tokens"]),
        image_pixels=tuple(report["image_pixels"]) if report["image_pixels"] else None,
        max_model_len=report["max_model_len"],
        metadata_fields=tuple(report["metadata_fields"]),
        language_model_bytes=report["language_model_bytes"],
        vision_tower_bytes=report["vision_tower_bytes"],
        kv_token_bytes=report["kv_token_bytes"],
        kv_cache_bytes=report["kv_cache_bytes"],
        sampling=report["sampling"],
        longest_answer=report["longest_answer"],
        files=files_digest(Path(model)) if Path(model).is_dir() else "",
    )


def _reason_against(report: dict[str, Any]) -> str | None:
    """Why the model cannot be split; None if it can."""
    if not report["multimodal"]:
        return "it takes no images, so there is nothing to put elsewhere"
    if report["deepstack"] and report["architecture"] not in (*DEEPSTACK, *UNUSED_DEEPSTACK):
        return (
            "it feeds several feature levels of its vision tower to the language model (DeepStack), which vLLM cannot "
            f"do without the tower, and Chiasm adds that for {' and '.join(DEEPSTACK)} only"
        )
    if not report["metadata_fields"]:
        return (
            "a decoder could not make room for an image that it does not have, since the model's data parser in vLLM "
            "declares no image `embedding_fields`, and Chiasm brings none for it"
        )
    return None


def inspect(arguments: list[str]) -> dict[str, Any]:
    """What vLLM says of the model that these vLLM arguments name. Imports vLLM."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    replace_models()
    parser = make_arg_parser(FlexibleArgumentParser())  # the server's own, for it gets the same arguments
    engine_args = EngineArgs.from_cli_args(parser.parse_args(arguments))
    model_config = engine_args.create_model_config()
    fields: set[str] = set()
    image_tokens = (1, int(model_config.max_model_len))
    image_pixels = None
    if model_config.is_multimodal_model:
        info = MULTIMODAL_REGISTRY.create_processor(model_config).info
        fields = info.data_parser.placeholder_metadata_fields("image")
        image_tokens = getattr(info, "image_token_bounds", image_tokens)
        image_pixels = _pixel_bounds(info)
    vision = _vision_config(model_config.hf_config)
    values = model_config.hf_config.to_dict(), model_config.dtype.itemsize
    return {
        "architecture": model_config.architecture,
        "revision": fingerprint(model_config.model, str(model_config.dtype), _commit(model_config)),
        "pixels_per_token": _pixels_per_token(vision),
        "image_tokens": image_tokens,
        "image_pixels": image_pixels,
        "max_model_len": int(model_config.max_model_len),
        "metadata_fields": sorted(fields),
        "multimodal": bool(model_config.is_multimodal_model),
        "deepstack": bool(getattr(vision, "deepstack_visual_indexes", None)),
        "tower": getattr(vision, "model_type", None),
        "language_model_bytes": _told(lambda: language_model_bytes(*values)),
        "vision_tower_bytes": _told(lambda: vision_tower_bytes(*values)),
        "kv_token_bytes": _told(lambda: footprint(*values).kv),
        "kv_cache_bytes": engine_args.kv_cache_memory_bytes,
        "sampling": model_config.get_diff_sampling_param(),
        "longest_answer": _longest_answer(model_config),
    }


def _longest_answer(model_config: Any) -> int | None:
    """The tokens that vLLM's server lets no answer exceed: `override_max_tokens`, as it works them out.

    `max_new_tokens` of the model's own generation config is a default. It is a bound where an operator has named it, by
    `--override-generation-config` or in the folder that is given as `--generation-config`.
    """
    named: Mapping[str, Any] = model_config.override_generation_config
    if model_config.generation_config in ("auto", "vllm"):
        return named.get("max_new_tokens")
    sampling: Mapping[str, Any] = model_config.get_diff_sampling_param()
    return sampling.get("max_tokens")


def _told(count: Callable[[], int]) -> int | None:
    """Bytes as counted from a configuration; only for people to read, so it may be missing what the count needs."""
    try:
        return count()
    except (KeyError, TypeError):
        return None


def _pixel_bounds(info: Any) -> tuple[int, int] | None:
    """What Qwen's image processor keeps an image's pixels within, however `--mm-processor-kwargs` spells it.

    None where another processor is used, or where this one is told not to resize.
    """
    from vllm.model_executor.models.qwen2_vl import Qwen2VLProcessingInfo

    if not isinstance(info, Qwen2VLProcessingInfo):
        return None
    processor = info.get_image_processor()
    if not type(processor).__name__.startswith("Qwen2VLImageProcessor"):
        return None
    # The processor itself knows of the flat `max_pixels` alone; the rest vLLM resolves for each image, by these two.
    options = info._merge_and_resolve_mm_processor_kwargs({}).get("images_kwargs", {})
    if not options.get("do_resize", processor.do_resize):
        return None
    size = info._get_vision_size(options, default_size=processor.size)
    return int(size["shortest_edge"]), int(size["longest_edge"])


def _commit(model_config: Any) -> str | None:
    commit: str | None = getattr(model_config.hf_config, "_commit_hash", None)
    return commit or model_config.revision


def _vision_config(hf_config: Any) -> Any:
    thinker = getattr(hf_config, "thinker_config", hf_config)  # the Omni line nests what we look for
    return getattr(thinker, "vision_config", None)


def _pixels_per_token(vision: Any) -> int:
    patch, merge = getattr(vision, "patch_size", None), getattr(vision, "spatial_merge_size", None)
    if isinstance(patch, int) and isinstance(merge, int):
        return (patch * merge) ** 2
    return DEFAULT_CELL**2


def fingerprint(model: str, dtype: str, commit: str | None) -> str:
    """Equal for equal weights, on whatever machine: a hub commit, or a digest of the folder's files."""
    folder = Path(model)
    files = files_digest(folder) if folder.is_dir() else model
    return blake3(f"{dtype}\0{commit}\0{files}".encode()).hexdigest(16)


if __name__ == "__main__":
    print(json.dumps(inspect(sys.argv[1:])))
